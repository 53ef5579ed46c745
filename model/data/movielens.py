"""Owns reading MovieLens archives in their original layouts.

Never changes them: rows keep their order, so that sorting by time is stable. Layouts known: 1M
(`ratings.dat`, fields apart by `::`, Latin-1 titles), 20M and later (`ratings.csv`, `movies.csv`).
"""

import io
import zipfile
import zlib
from pathlib import Path

import polars as pl

from model.data.actions import rating_index
from model.data.errors import DataError as DataError
from model.data.frame import from_frame
from model.data.interactions import Interactions
from model.presets import RATING_TASK

_MAX_MEMBER_BYTES = 2 << 30


def read_movielens(path: Path) -> Interactions:
    """Ratings as actions (1-2.5 negative, 3-3.5 neutral, 4-5 positive), rated items only.

    Raises:
        DataError: missing, not an archive, of another layout, or with malformed rows.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {Path(info.filename).name: info for info in archive.infolist()}
            if "ratings.dat" in members:
                ratings, movies = _read_1m(archive, members)
            elif "ratings.csv" in members:
                ratings, movies = _read_latest(archive, members)
            else:
                raise DataError(
                    f"{path}: holds neither ratings.dat nor ratings.csv; pass an archive of "
                    "MovieLens 1M, 20M or later, or a table by itself"
                )
        return _to_interactions(path, ratings, movies)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist; download an archive from grouplens.org/datasets/movielens "
            "and pass its path"
        ) from error
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{path} is not a readable MovieLens archive: {reason}; it may be damaged, get it again"
        ) from error


_UNREADABLE = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # encrypted, or compressed in a way zipfile does not know
    KeyError,
    ValueError,
    pl.exceptions.PolarsError,
)
_Members = dict[str, zipfile.ZipInfo]
_RATINGS = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float64, "timestamp": pl.Int64}


def _read_1m(archive: zipfile.ZipFile, members: _Members) -> tuple[pl.DataFrame, pl.DataFrame]:
    ratings = pl.read_csv(
        io.BytesIO(_member(archive, members, "ratings.dat").replace(b"::", b",")),
        has_header=False,
        new_columns=list(_RATINGS),
        schema_overrides=list(_RATINGS.values()),
    )
    text = _member(archive, members, "movies.dat").decode("latin-1")
    # Not splitlines: titles may hold what it takes for the end of a line.
    rows = [line.rstrip("\r").split("::") for line in text.split("\n") if line.strip()]
    movies = pl.DataFrame(rows, schema=["item", "title", "genres"], orient="row")
    return ratings, movies.cast({"item": pl.Int64})


def _read_latest(archive: zipfile.ZipFile, members: _Members) -> tuple[pl.DataFrame, pl.DataFrame]:
    text = _member(archive, members, "ratings.csv")
    ratings = pl.read_csv(text, schema_overrides={"rating": pl.Float64})
    movies = pl.read_csv(_member(archive, members, "movies.csv"))
    ratings = ratings.rename({"userId": "user", "movieId": "item"}).cast(_RATINGS)  # type: ignore[arg-type]
    return ratings, movies.rename({"movieId": "item"})


def _member(archive: zipfile.ZipFile, members: _Members, name: str) -> bytes:
    info = members[name]
    if info.file_size > _MAX_MEMBER_BYTES:
        raise DataError(f"{archive.filename}: {name} unpacks to {info.file_size} bytes, too large")
    return archive.read(info)


def _to_interactions(path: Path, ratings: pl.DataFrame, movies: pl.DataFrame) -> Interactions:
    bad = ratings.select(
        pl.any_horizontal(pl.all().is_null()) | ~pl.col("rating").is_between(0.5, 5)
    ).to_series()
    if bad.any():
        raise DataError(
            f"{path}: {bad.sum()} of {len(ratings)} rating rows are malformed (first: row "
            f"{bad.arg_true()[0] + 1}); a user, a movie, a rating of 0.5 to 5 and a time are needed"
        )
    if not len(ratings):
        raise DataError(f"{path}: has no ratings; get the archive again")
    events = ratings.with_columns(rating_index(ratings["rating"]).alias("action"))
    listed = movies.select("item", "title", "genres")
    return from_frame(events, tasks=(RATING_TASK,), listed=listed)
