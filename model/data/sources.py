"""Owns opening a data set by name or by path, whatever its layout.

Never prints. Layouts are told by content: MovieLens archives, Taobao UserBehavior, Amazon reviews,
and any CSV, TSV, JSON lines or parquet table with a user, an item and a timestamp.
"""

from collections.abc import Mapping
from pathlib import Path

from model.data.columns import NAMES, interpret, meanings
from model.data.download import Progress, fetch
from model.data.errors import DataError
from model.data.files import kind_of, unpack
from model.data.interactions import Interactions
from model.data.movielens import read_movielens
from model.data.public import PUBLIC, PublicFile, cache_folder
from model.data.tables import parquet_columns, read_json_lines, read_parquet, read_separated
from model.data.taobao import is_taobao, read_taobao
from model.data.text import Text


def open_data(
    name: str,
    *,
    cache: Path | None = None,
    download: bool = True,
    progress: Progress | None = None,
    public: Mapping[str, PublicFile] = PUBLIC,
) -> Interactions:
    """
    Args:
        name: one of the public sets, or the path of a file
        cache: folder of the public sets; the user's cache folder by default
        download: fetch a public set that the cache lacks
        progress: called with the bytes fetched so far, and the total where it is known

    Raises:
        DataError: no such file, no way to fetch it, or not usable; says what to do.
    """
    if name not in public:
        return _read(_existing(name, public))
    path = (cache or cache_folder()) / public[name].file_name
    if not path.exists():
        fetch(public[name], path, download=download, progress=progress)
    try:
        return _read(path)
    except DataError as error:
        raise DataError(f"{error} (delete {path} to have {name} fetched anew)") from error


def _existing(name: str, public: Mapping[str, PublicFile]) -> Path:
    try:
        path = Path(name).expanduser()
        found = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{name!r} can not be opened: {error}; pass another path") from error
    if not found:
        raise DataError(
            f"{name} does not exist; pass the path of a file, or one of {', '.join(public)}"
        )
    return path


def _read(path: Path) -> Interactions:
    kind = kind_of(path)
    if kind == "zip":
        return read_movielens(path)
    if kind == "parquet":
        found = parquet_columns(path)
        return interpret(read_parquet(path, list(meanings(path, found).values())))
    return _read_text(Text(path, unpack(path) if kind == "gzip" else None))


def _read_text(text: Text) -> Interactions:
    line = text.first_line()
    if line.startswith("{"):
        return interpret(
            read_json_lines(text, [name for names in NAMES.values() for name in names])
        )
    if is_taobao(line):
        return read_taobao(text)
    if "::" in line:
        raise DataError(
            f"{text.path}: a MovieLens table; pass the whole archive, such as ml-1m.zip"
        )
    return interpret(read_separated(text, "\t" if "\t" in line else ","))
