"""MovieLens archives in both layouts; what cannot be read names the file."""

import random
from pathlib import Path

import pytest

from model.data.movielens import DataError, read_movielens
from model.history import Event
from model.items import Items
from tests.model.training.data import MEMBERS_1M, MEMBERS_LATEST, archive_of

RATINGS, MOVIES = "ml-latest/ratings.csv", "ml-latest/movies.csv"
NEGATIVE, NEUTRAL, POSITIVE = 1, 2, 3


@pytest.mark.parametrize("members", [MEMBERS_1M, MEMBERS_LATEST], ids=["1m", "latest"])
def test_both_layouts_are_read_alike(tmp_path: Path, members: dict[str, str]) -> None:
    data = read_movielens(archive_of(tmp_path / "data.zip", members))
    assert data.user_ids == ["1", "2"]
    assert data.items.rows == [
        {"item_id": "10", "title": "A (1990)", "genres": "Drama"},
        {"item_id": "20", "title": "B", "genres": "Crime|War"},
        {"item_id": "30", "title": "C", "genres": "Drama"},
    ]  # not 40: nobody rated it
    assert [history.events for history in data.histories()] == [
        [Event(2, NEGATIVE, 50), Event(1, POSITIVE, 100), Event(0, NEUTRAL, 100)],
        [Event(1, NEGATIVE, 7)],
    ]


def latest(tmp_path: Path, ratings: str, movies: str = MEMBERS_LATEST[MOVIES]) -> Path:
    header = "userId,movieId,rating,timestamp\n"
    return archive_of(tmp_path / "data.zip", {RATINGS: header + ratings, MOVIES: movies})


def test_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Rows of many users in any order: an unstable sort would show."""
    order = random.Random(0)
    rows = [(order.randrange(4), order.choice((10, 20, 30, 40)), n % 3) for n in range(300)]
    text = "".join(f"{user},{movie},4.0,{time}\n" for user, movie, time in rows)
    data = read_movielens(latest(tmp_path, text))
    found = [[data.items.ids[e.item] for e in history.events] for history in data.histories()]
    in_time = sorted(rows, key=lambda row: row[2])
    assert found == [[str(movie) for who, movie, _ in in_time if who == user] for user in range(4)]


def test_ratings_become_actions_at_three_and_four(tmp_path: Path) -> None:
    ratings = ["0.5", "1.0", "2.5", "3.0", "3.5", "4.0", "4.5", "5.0"]
    text = "".join(f"1,10,{rating},{time}\n" for time, rating in enumerate(ratings))
    data = read_movielens(latest(tmp_path, text))
    assert data.action.tolist() == [NEGATIVE] * 3 + [NEUTRAL] * 2 + [POSITIVE] * 3


def test_titles_are_latin_1_in_1m_and_quoted_in_latest(tmp_path: Path) -> None:
    movies = '10::Am\xe9lie: \xbfqui\xe9n, "yo"?::Drama\n20::B::War\n30::C::War\n'
    old = MEMBERS_1M | {"ml-1m/movies.dat": movies.encode("latin-1")}
    title = read_movielens(archive_of(tmp_path / "1m.zip", old)).items.metadata(0)["title"]
    assert title == 'Am\xe9lie: \xbfqui\xe9n, "yo"?'
    new = 'movieId,title,genres\n10,"Am\xe9lie: \xbfqui\xe9n, ""yo""?",Drama\n'
    items = read_movielens(latest(tmp_path, "1,10,4.0,1\n", new)).items
    assert items.metadata(0)["title"] == title


def test_a_rated_item_without_a_title_is_kept(tmp_path: Path) -> None:
    items = read_movielens(latest(tmp_path, "1,10,4.0,1\n1,77,4.0,2\n")).items
    assert items.rows[1] == {"item_id": "77", "title": "", "genres": ""}


def test_items_are_in_order_of_number(tmp_path: Path) -> None:
    """Not of text: 9 comes before 10 and 100."""
    items = read_movielens(latest(tmp_path, "1,100,4,1\n1,9,4,2\n2,10,4,3\n")).items
    assert items.ids == ["9", "10", "100"]
    assert isinstance(items, Items)


@pytest.mark.parametrize(
    "rows",
    ["1,10,9.0,5\n", "1,10,0.0,5\n", "1,10,x,5\n", "1,10\n", "1,10,4.0,\n", "1,ten,4.0,5\n"],
)
def test_malformed_ratings_are_refused(tmp_path: Path, rows: str) -> None:
    path = latest(tmp_path, "1,20,4.0,1\n" + rows)
    with pytest.raises(DataError, match=str(path)):
        read_movielens(path)


def test_malformed_ratings_are_counted(tmp_path: Path) -> None:
    path = latest(tmp_path, "1,20,4.0,1\n1,10,9.0,5\n1,10,,5\n")
    with pytest.raises(DataError, match=r"2 of 3 rating rows are malformed \(first: row 2\)"):
        read_movielens(path)


@pytest.mark.parametrize(
    "members",
    [
        {"readme.txt": "hello"},
        {RATINGS: MEMBERS_LATEST[RATINGS]},
        {RATINGS: "", MOVIES: MEMBERS_LATEST[MOVIES]},
        {RATINGS: "userId,movieId,rating,timestamp\n", MOVIES: MEMBERS_LATEST[MOVIES]},
        {RATINGS: "user,film,stars\n1,10,4\n", MOVIES: MEMBERS_LATEST[MOVIES]},
        {RATINGS: MEMBERS_LATEST[RATINGS], MOVIES: b"movieId,title,genres\n10,\xe9,x\n"},
        {"ratings.dat": MEMBERS_1M["ml-1m/ratings.dat"]},
        MEMBERS_1M | {"ml-1m/movies.dat": "10::only\n"},
        MEMBERS_1M | {"ml-1m/movies.dat": "10::A::Drama\n20::B\n"},
        MEMBERS_1M | {"ml-1m/movies.dat": "ten::A::Drama\n"},
        MEMBERS_1M | {"ml-1m/ratings.dat": "1::10::5\n"},
        MEMBERS_1M | {"ml-1m/ratings.dat": "1::10::5::100\n1::10::good::100\n"},
    ],
)
def test_another_layout_is_refused(tmp_path: Path, members: dict[str, str | bytes]) -> None:
    path = archive_of(tmp_path / "other.zip", members)
    with pytest.raises(DataError, match=str(path)):
        read_movielens(path)


@pytest.mark.parametrize(
    "movies",
    [
        "movieId,genres\n10,Drama\n",
        "movieId,title,genres\nten,A,Drama\n",
        "movieId,title,genres\n10,A,Drama\n10,A again,Drama\n",
    ],
    ids=["no titles", "ids that are no numbers", "a movie twice"],
)
def test_malformed_movies_are_refused(tmp_path: Path, movies: str) -> None:
    path = latest(tmp_path, "1,10,4.0,1\n", movies)
    with pytest.raises(DataError, match=str(path)):
        read_movielens(path)


def test_a_missing_archive_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.zip does not exist; download .*grouplens"):
        read_movielens(tmp_path / "nothing.zip")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.95])
def test_an_archive_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = archive_of(tmp_path / "data.zip", MEMBERS_1M)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=rf"{path} is not a readable MovieLens archive"):
        read_movielens(path)


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a readable MovieLens archive"):
        read_movielens(tmp_path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"{n % 7},{n % 31},4.0,{n}\n" for n in range(500))
    path = latest(tmp_path, rows)
    data = bytearray(path.read_bytes())
    data[60:80] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path} is not a readable MovieLens archive"):
        read_movielens(path)


@pytest.mark.parametrize(("place", "byte"), [(6, 1), (8, 99)], ids=["encrypted", "compression"])
def test_an_archive_that_needs_another_program_is_refused(
    tmp_path: Path, place: int, byte: int
) -> None:
    """Its flags and its compression stand in the local header and, 2 bytes on, in the directory."""
    path = archive_of(tmp_path / "data.zip", MEMBERS_1M)
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", place), (b"PK\x01\x02", place + 2)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] = byte
            at = data.find(mark, at + 1)
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path} is not a readable MovieLens archive"):
        read_movielens(path)


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.data.movielens._MAX_MEMBER_BYTES", 60)
    path = archive_of(tmp_path / "data.zip", MEMBERS_1M | {"ml-1m/ratings.dat": "1" * 61})
    with pytest.raises(DataError, match=rf"{path}: ratings\.dat unpacks to .* too large"):
        read_movielens(path)
