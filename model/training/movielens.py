"""Owns reading MovieLens archives in their original layouts.

Never changes them: rows keep their order, so that sorting by time is stable. Layouts known: 1M
(`ratings.dat`, fields apart by `::`, Latin-1 titles) and latest (`ratings.csv`, `movies.csv`).
"""

import io
import zipfile
import zlib
from pathlib import Path

import polars as pl
import torch

from model.items import Items
from model.presets import RATING_TASK
from model.training.interactions import Interactions

_MAX_MEMBER_BYTES = 2 << 30


class DataError(Exception):
    """A data file can not be used; the message names it and what is wrong."""


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
                raise DataError(f"{path}: holds neither ratings.dat nor ratings.csv")
        return _to_interactions(path, ratings, movies)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist; download an archive from grouplens.org/datasets/movielens "
            "and pass its path"
        ) from error
    except _UNREADABLE as error:
        raise DataError(f"{path} is not a readable MovieLens archive: {error}") from error


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
    ratings = pl.read_csv(_member(archive, members, "ratings.csv"))
    movies = pl.read_csv(_member(archive, members, "movies.csv"))
    ratings = ratings.rename({"userId": "user", "movieId": "item"}).cast(_RATINGS)  # type: ignore[arg-type]
    return ratings, movies.rename({"movieId": "item"})


def _member(archive: zipfile.ZipFile, members: _Members, name: str) -> bytes:
    info = members[name]
    if info.file_size > _MAX_MEMBER_BYTES:
        raise DataError(f"{archive.filename}: {name} unpacks to {info.file_size} bytes, too large")
    return archive.read(info)


def _to_interactions(path: Path, ratings: pl.DataFrame, movies: pl.DataFrame) -> Interactions:
    bad = ratings.filter(
        pl.any_horizontal(pl.all().is_null()) | ~pl.col("rating").is_between(0.5, 5)
    )
    if len(bad) or not len(ratings):
        raise DataError(f"{path}: {len(bad)} of {len(ratings)} rating rows are malformed")
    rated = ratings.select("item").unique().join(movies, on="item", how="left").sort("item")
    items = Items(
        [
            {"item_id": str(item), "title": title or "", "genres": genres or ""}
            for item, title, genres in rated.select("item", "title", "genres").iter_rows()
        ]
    )
    action = RATING_TASK.actions.index
    ratings = (
        ratings.with_columns(
            pl.when(pl.col("rating") < 3)
            .then(1 + action("negative"))
            .when(pl.col("rating") < 4)
            .then(1 + action("neutral"))
            .otherwise(1 + action("positive"))
            .alias("action")
        )
        .join(rated.select("item").with_row_index("index"), on="item", maintain_order="left")
        .sort("user", "timestamp", maintain_order=True)
    )
    users = ratings.group_by("user", maintain_order=True).len()
    offsets = torch.zeros(len(users) + 1, dtype=torch.int64)
    offsets[1:] = torch.tensor(users["len"].to_list()).cumsum(0)
    index, actions, times = (
        torch.tensor(ratings[column].cast(pl.Int64).to_list())
        for column in ("index", "action", "timestamp")
    )
    user_ids = [str(user) for user in users["user"]]
    return Interactions(items, user_ids, offsets, index, actions, times)
