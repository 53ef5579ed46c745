"""Owns the formats by name: who reads each, and which options it asks for.

Never writes anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from model.errors import problems
from model.importers import genrec, meta, rechub, rectools
from model.importers.imported import Imported
from model.importers.options import ImportOptions
from model.importers.source import read_weights
from model.importers.weights import ForeignWeights, ImportFailed


@dataclass(frozen=True, slots=True)
class Format:
    """`options`: the fields of ImportOptions that the weights do not tell."""

    read: Callable[[ForeignWeights, ImportOptions], Imported]
    options: frozenset[str]


FORMATS = {
    "meta": Format(meta.read, frozenset({"heads", "temperature"})),
    "rectools": Format(
        rectools.read,
        frozenset({"heads", "length", "temperature", "similarity", "item_scale"}),
    ),
    "rechub": Format(
        rechub.read,
        frozenset(
            {"temperature", "similarity", "item_scale", "time_fn", "time_unit_s", "time_width"}
        ),
    ),
    "genrec": Format(genrec.read, frozenset({"length"})),
}


def import_file(name: str, path: Path, options: ImportOptions) -> Imported:
    """What the file at `path` holds, read as the format `name`.

    Raises:
        ImportFailed: an option the format has no use for, or a file it can not be read from.
    """
    unused = sorted(options.model_dump(exclude_none=True).keys() - FORMATS[name].options)
    if unused:
        flags = ", ".join(f"--{option.replace('_', '-')}" for option in unused)
        raise ImportFailed(f"{flags}: of no use for {name}")
    weights = read_weights(path)
    try:
        return FORMATS[name].read(weights, options)
    except ImportFailed as error:
        raise ImportFailed(f"{path}, read as {name}: {error}") from error
    except ValidationError as error:
        where, what = next(problems(error))
        raise ImportFailed(f"{path}, read as {name}: {where or 'sizes'}: {what}") from error
