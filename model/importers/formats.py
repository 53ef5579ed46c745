"""Owns the formats by name: who reads each, and which options it asks for.

Never writes anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from model.importers import genrec, meta, rechub, rectools
from model.importers.imported import Imported, ImportOptions
from model.importers.source import read_weights
from model.importers.weights import ForeignWeights, ImportFailed

FLAGS = {
    "num_heads": "--heads",
    "max_length": "--length",
    "temperature": "--temperature",
    "similarity": "--similarity",
    "item_scale": "--item-scale",
    "time_fn": "--time-fn",
    "time_unit_s": "--time-unit",
    "time_width": "--time-width",
}
"""What each option is called on the command line."""


@dataclass(frozen=True, slots=True)
class Format:
    """`options`: the fields of ImportOptions that the weights do not tell."""

    read: Callable[[ForeignWeights, ImportOptions], Imported]
    options: frozenset[str]


FORMATS = {
    "meta": Format(meta.read, frozenset({"num_heads", "temperature"})),
    "rectools": Format(
        rectools.read,
        frozenset({"num_heads", "max_length", "temperature", "similarity", "item_scale"}),
    ),
    "rechub": Format(
        rechub.read,
        frozenset(
            {"temperature", "similarity", "item_scale", "time_fn", "time_unit_s", "time_width"}
        ),
    ),
    "genrec": Format(genrec.read, frozenset({"max_length"})),
}


def import_file(name: str, path: Path, options: ImportOptions) -> Imported:
    """What the file at `path` holds, read as the format `name`.

    Raises:
        ImportFailed: an option the format has no use for, or a file it can not be read from.
    """
    unused = sorted(FLAGS[option] for option in options.given().keys() - FORMATS[name].options)
    if unused:
        raise ImportFailed(f"{', '.join(unused)}: of no use for {name}")
    weights = read_weights(path)
    try:
        return FORMATS[name].read(weights, options)
    except ImportFailed as error:
        raise ImportFailed(f"{path}, read as {name}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ImportFailed(f"{path}, read as {name}: {where or 'sizes'}: {first['msg']}") from error
