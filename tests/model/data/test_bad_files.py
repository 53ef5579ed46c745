"""What can not be used says which file, where in it, and what to do."""

import gzip
import os
import stat
from pathlib import Path

import polars as pl
import pytest

from model.data.errors import DataError
from model.data.sources import open_data
from tests.model.data.cases import written

HEADER = "user,item,timestamp\n"
GOOD = "u,i,1\n"
TAOBAO = "1,2,3,pv,4\n"


def refused(path: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as error:
        open_data(str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEADER + GOOD + "u,i\n", "line 3 has 2 fields instead of 3"),
        (HEADER + GOOD + "u,i,1,2\n", "line 3 has 4 fields instead of 3"),
        (HEADER + GOOD + "  \n", "line 3 has 1 fields instead of 3"),
        (
            HEADER + GOOD + ",i,1\n\n,i,2\n",
            r"2 of 3 rows have no id in column user \(first: line 3",
        ),
        (HEADER + "\n" + GOOD + 'u," ",1\n', r"1 of 2 row has no id in column item .*line 4"),
        (HEADER + '"a\nb",i,1\n,i,1\n', r"no id in column user \(first: line 4"),
        (HEADER + GOOD + "\n,,\n", "line 4 has only empty fields"),
        (HEADER + "u,i,\n", r"no timestamp in column timestamp \(first: line 2\)"),
        (HEADER + GOOD + 'u,"i,1\nu,i,2\n', "not a readable table|fields instead"),
        ("user,item,timestamp,rating\nu,i,1,4\nu,i,1,\n", r"no rating of 0.5 to 5 .*line 3"),
        ("user,item,timestamp,rating\nu,i,1,5.5\n", "no rating of 0.5 to 5"),
        ("user,item,timestamp,rating\nu,i,1,nan\n", "no rating of 0.5 to 5"),
        ("user,item,timestamp,rating\nu,i,1,good\n", "no rating of 0.5 to 5"),
        (HEADER, "has a header but no rows"),
        (HEADER + "\n\n", "has a header but no rows"),
        ("\n\n", "line 1 is blank"),
        ("user,title,when\nu,i,1\n", "no column for item, timestamp; found: user, title, when"),
        ("u,i,1\nu,i,2\n", "no column for user, item, timestamp; found: u, i, 1. Name"),
        ("user,userId,item,time\nu,u,i,1\n", "user and userId could both be the user"),
        ("1::2::3::4\n", "pass the whole archive"),
        (TAOBAO + "1,2,3,look,4\n", r"none of the actions pv, cart, fav, buy \(first: line 2\)"),
        (TAOBAO + "1,2,3,pv\n", "line 2 has 4 fields instead of 5"),
        (TAOBAO + ",2,3,pv,4\n", r"no id in column user \(first: line 2\)"),
        (TAOBAO + "1,2,3,pv,-4\n", r"negative or out of range \(first: line 2\)"),
        ('{"user": "u", "item": "i", "time": 1}\n{"user": 1\n', "line 2 is not a JSON object"),
        ('{"user": "u", "item": "i", "time": 1}\n\n[1]\n', "line 3 is not a JSON object"),
        ('{"user": "u", "item": "i", "time": 1}\n\n{"item": "i", "time": 1}\n', "user .*line 3"),
        ('{"user": "u", "film": "i"}\n', "no column for item, timestamp; found: user, film"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_tables(tmp_path: Path, text: str, reason: str, name: str) -> None:
    written(tmp_path / name, text)
    refused(tmp_path / name, reason)


@pytest.mark.parametrize(
    "text",
    [
        HEADER.encode() + b"u,i,1\nu,\xe9,2\n",
        TAOBAO.encode() + b"\n1,2,\xe9,pv,2\n",
        b'{"user": "u", "item": "i", "time": 1}\n\n{"user": "\xe9", "item": "i", "time": 1}\n',
    ],
)
def test_another_encoding(tmp_path: Path, text: bytes) -> None:
    written(tmp_path / "a.csv", text)
    refused(tmp_path / "a.csv", "line 3 is not UTF-8 .*convert the file to UTF-8")


def test_utf_16(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", (HEADER + GOOD).encode("utf-16"))
    refused(tmp_path / "a.csv", "line 1 is not UTF-8")


def test_too_many_actions(tmp_path: Path) -> None:
    rows = [f"u,i,1,a{n}\n" for n in range(65)]
    header = "user,item,timestamp,action\n"
    assert len(open_data(written(tmp_path / "a.csv", header + "".join(rows[:64]))).tasks) == 1
    written(tmp_path / "a.csv", header + "".join(rows))
    refused(tmp_path / "a.csv", "has 65 distinct actions, at most 64")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.zip", "a.parquet"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    refused(tmp_path / name, "is empty")


def test_an_empty_packed_file(tmp_path: Path) -> None:
    written(tmp_path / "a.csv.gz", "")
    refused(tmp_path / "a.csv.gz", "is empty once unpacked")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.zip", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HEADER + GOOD)
    refused(tmp_path / name, "is damaged: it is named as")


@pytest.mark.parametrize("cut", [3, 12, 40, -9, -4])
def test_gzip_cut_short(tmp_path: Path, cut: int) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress((HEADER + GOOD * 99).encode())[:cut])
    refused(tmp_path / "a.gz", "is not a readable gzip file")


def test_gzip_with_flipped_bytes(tmp_path: Path) -> None:
    data = bytearray(gzip.compress((HEADER + "".join(f"u{n},i,1\n" for n in range(999))).encode()))
    data[50:60] = b"\xff" * 10
    (tmp_path / "a.gz").write_bytes(data)
    refused(tmp_path / "a.gz", "is not a readable gzip file")


def test_gzip_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.files.MAX_UNPACKED_BYTES", 3 << 20)
    written(tmp_path / "a.csv.gz", b"0" * (4 << 20))
    refused(tmp_path / "a.csv.gz", "unpacks to more than .* too large")


@pytest.mark.parametrize("cut", [4, 100, -1, -8])
def test_parquet_cut_short(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": ["u"], "item": ["i"], "timestamp": [1]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:cut])
    refused(path, "is not a readable table")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"user": ["u"], "item": ["i"]}, "no column for timestamp; found: user, item"),
        ({"user": [None, "u"]}, r"1 of 2 row has no id in column user \(first: row 1\)"),
        ({"user": [1, None]}, "no id in column user .*row 2"),
        ({"user": [1.0, 2.0]}, "column user holds Float64, no ids"),
        ({"timestamp": [1, None]}, "no timestamp in column timestamp .*row 2"),
        ({"timestamp": [True, False]}, "neither a whole number"),
        ({"timestamp": [1.0, float("nan")]}, "neither a whole number .*row 2"),
        ({"user": [], "item": [], "timestamp": []}, "no rows"),
    ],
)
def test_parquet_columns(tmp_path: Path, columns: dict[str, list[object]], reason: str) -> None:
    path = tmp_path / "a.parquet"
    whole = (
        {"user": ["u", "v"], "item": ["i", "j"], "timestamp": [1, 2]} if len(columns) < 2 else {}
    )
    pl.DataFrame(whole | columns, strict=False).write_parquet(path)
    refused(path, reason)


def test_too_long_a_parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.tables.MAX_ROWS", 1)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": [1, 1], "item": [1, 1], "timestamp": [1, 1]}).write_parquet(path)
    refused(path, "has 2 rows, too many")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder; pass one file")


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    refused(tmp_path / "a", "is not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read any file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", HEADER + GOOD)
    (tmp_path / "a.csv").chmod(stat.S_IWUSR)
    refused(tmp_path / "a.csv", "can not be read")


def test_a_file_that_can_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a.csv", HEADER + GOOD)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    refused(tmp_path / "a.csv", "can not be read: Permission denied")
