"""Every layout is told by its content, and read as the same kind of interactions."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from model.config import ActionTask
from model.data.errors import DataError
from model.data.sources import open_data
from model.data.taobao import BEHAVIOUR_TASK
from model.presets import RATING_TASK
from tests.model.data.cases import events_of, written
from tests.model.training.data import MEMBERS_1M, MEMBERS_LATEST, archive_of

PLAIN = {"u1": [("b", 0, 50), ("a", 0, 100)], "u2": [("a", 0, 7)]}
AMAZON = "user_id,item_id,timestamp\nu1,a,100\nu2,a,7\nu1,b,50\n"
ACTIONS = ("pv", "cart", "fav", "buy")
TAOBAO = "10,200,7,pv,100\n9,30,5,buy,50\n10,30,5,cart,99\n9,200,8,fav,50\n"


@pytest.mark.parametrize("members", [MEMBERS_1M, MEMBERS_LATEST], ids=["1m", "latest"])
def test_movielens_archives(tmp_path: Path, members: dict[str, str]) -> None:
    data = open_data(str(archive_of(tmp_path / "any.name", members)))
    assert events_of(data)["1"] == [("30", 1, 50), ("20", 3, 100), ("10", 2, 100)]
    assert (data.tasks, data.num_listed) == ((RATING_TASK,), 4)
    assert data.notes == ("1 of 2 users have one event only",)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a"])
def test_tables_of_text(tmp_path: Path, name: str) -> None:
    text = AMAZON.replace(",", "\t") if "tsv" in name else AMAZON
    data = open_data(written(tmp_path / name, text))
    assert events_of(data) == PLAIN
    assert (data.tasks, data.num_listed) == ((), 2)
    assert data.items.rows == [{"item_id": "a"}, {"item_id": "b"}]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("u2,a,7\n", '\n"u2",a,7\n') + "\n\n",
        lambda text: text.replace("user_id,item_id", "reviewerID,ASIN"),
        lambda text: text.replace("timestamp", "unix_timestamp"),
        lambda text: "\n".join(f"{line},x" for line in text.splitlines()) + "\n",
    ],
    ids=["mark", "crlf", "no end", "blank lines", "names", "time", "other column"],
)
def test_spellings_of_one_table(tmp_path: Path, change: Callable[[str], str]) -> None:
    assert events_of(open_data(written(tmp_path / "a.csv", change(AMAZON)))) == PLAIN


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_amazon_reviews_as_published(tmp_path: Path, name: str) -> None:
    rows = [("A1", "0000013714", 5.0, 100), ("A0", "B2", 1.0, 7), ("A1", "B2", 3.0, 50)]
    text = "".join(
        json.dumps(
            {
                "reviewerID": user,
                "asin": item,
                "helpful": [0, 1],
                "reviewText": "on\ntwo lines",
                "overall": rating,
                "unixReviewTime": time,
                "reviewTime": "09 13, 2009",
            }
        )
        + "\n"
        for user, item, rating, time in rows
    )
    data = open_data(written(tmp_path / name, text))
    assert data.tasks == (RATING_TASK,)
    assert events_of(data) == {
        "A0": [("B2", 1, 7)],
        "A1": [("B2", 2, 50), ("0000013714", 3, 100)],
    }


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_taobao_behaviour(tmp_path: Path, name: str) -> None:
    data = open_data(written(tmp_path / name, TAOBAO))
    assert data.tasks == (BEHAVIOUR_TASK,) == (ActionTask(name="behaviour", actions=ACTIONS),)
    assert events_of(data) == {
        "9": [("30", 4, 50), ("200", 3, 50)],
        "10": [("30", 2, 99), ("200", 1, 100)],
    }
    assert data.items.rows == [
        {"item_id": "30", "category": "5"},
        {"item_id": "200", "category": "7"},
    ]
    assert data.notes == ("1 items are in several categories: the first one is kept",)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"userId": [10, 9, 10], "time": [3, 2, 1], "item": ["y", "x", "x"]})
    frame.with_columns(other=pl.lit(None)).write_parquet(path)
    assert events_of(open_data(str(path))) == {"9": [("x", 0, 2)], "10": [("x", 0, 1), ("y", 0, 3)]}


@pytest.mark.parametrize("dtype", [pl.UInt64, pl.Int8, pl.String, pl.Categorical])
def test_types_of_ids_in_parquet(tmp_path: Path, dtype: type[pl.DataType]) -> None:
    path = tmp_path / "a.parquet"
    ids = pl.Series(["10", "9"]).cast(pl.Int64) if dtype in (pl.UInt64, pl.Int8) else ["10", "9"]
    frame = pl.DataFrame({"user": ids, "item": ids, "timestamp": [1, 2]})
    frame.cast({"user": dtype, "item": dtype}).write_parquet(path)
    data = open_data(str(path))
    assert data.user_ids == data.items.ids == ["9", "10"]


@pytest.mark.parametrize(
    ("column", "tasks", "actions"),
    [
        ("action:view,,buy", (ActionTask(name="action", actions=("buy", "view")),), [2, 0, 1]),
        ("action:,,", (), [0, 0, 0]),
        ("rating:0.5,3,4", (RATING_TASK,), [1, 2, 3]),
        ("Overall:2.5,3.5,5", (RATING_TASK,), [1, 2, 3]),
    ],
)
def test_what_happened(
    tmp_path: Path, column: str, tasks: tuple[ActionTask, ...], actions: list[int]
) -> None:
    name, values = column.split(":")
    rows = "".join(f"u,i{n},{n},{value}\n" for n, value in enumerate(values.split(",")))
    data = open_data(written(tmp_path / "a.csv", f"user,item,timestamp,{name}\n{rows}"))
    assert (data.tasks, data.action.tolist()) == (tasks, actions)


def test_actions_come_before_ratings(tmp_path: Path) -> None:
    text = "user,item,timestamp,rating,action\nu,i,1,9,buy\nu,i,2,,buy\n"
    data = open_data(written(tmp_path / "a.csv", text))
    assert data.tasks == (ActionTask(name="action", actions=("buy",)),)
    assert data.notes == ("column rating is not used: action is",)


def test_notes_stay_with_a_part(tmp_path: Path) -> None:
    data = open_data(written(tmp_path / "a.csv", AMAZON + "u1,a,100\n"))
    assert data.notes == (
        "1 rows repeat another row exactly: all are kept",
        "1 of 2 users have one event only",
    )
    assert len(data.item) == 4
    assert data.without_last(1).notes == data.shuffle_ties(0).notes == data.notes


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a.csv", AMAZON)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert events_of(open_data("~/a.csv")) == PLAIN


def test_names_with_wildcards_are_one_file(tmp_path: Path) -> None:
    written(tmp_path / "ab.csv", "user,item,timestamp\nx,y,1\n")
    assert events_of(open_data(written(tmp_path / "a[b]*.csv", AMAZON))) == PLAIN


def test_what_is_neither_a_file_nor_a_set(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nothing does not exist; .*ml-1m, ml-20m, ml-latest-small"
    ):
        open_data(str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000, "~nobody-of-this-name/a"])
def test_what_can_not_be_a_path(name: str) -> None:
    with pytest.raises(DataError, match=r"can not be opened|does not exist"):
        open_data(name)
