"""The item vocabulary: ids, indices, and the CSV file they live in."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from model.items import Items, ItemsError

any_text = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)


def of(*ids: str, **columns: str) -> Items:
    return Items([{"item_id": item_id, **columns} for item_id in ids])


def written(path: Path, items: Items) -> Path:
    path.write_text(items.to_csv(), encoding="utf-8")
    return path


def test_an_index_is_the_place_in_the_file() -> None:
    items = of("b", "a", "10")
    assert (len(items), items.ids) == (3, ["b", "a", "10"])
    assert items.index == {"b": 0, "a": 1, "10": 2}


def test_metadata_is_every_column_but_the_id() -> None:
    items = of("a", title="Heat", genres="Crime")
    assert items.metadata(0) == {"title": "Heat", "genres": "Crime"}
    assert of("a").metadata(0) == {}


def test_split_keeps_order_and_each_id_once() -> None:
    items = of("a", "b", "c")
    assert items.split(["c", "x", "a", "c", "y", "x"]) == ([2, 0], ["x", "y"])
    assert items.split([]) == ([], [])


@pytest.mark.parametrize(
    ("ids", "message"), [(("a", "b", "a"), "appears twice"), (("a", ""), "is empty")]
)
def test_an_id_is_unique_and_not_empty(ids: tuple[str, ...], message: str) -> None:
    with pytest.raises(ItemsError, match=message):
        of(*ids)


def test_the_digest_is_of_ids_and_their_order() -> None:
    digest = of("a", "b", title="one").digest()
    assert digest == of("a", "b", title="two", year="1999").digest()
    assert digest != of("b", "a", title="one").digest()
    assert digest != of("a", "c", title="one").digest()
    assert of("ab", "c").digest() != of("a", "bc").digest()


@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    ids=st.lists(any_text.filter(bool), min_size=1, max_size=5, unique=True),
    title=any_text,
    genres=any_text,
)
@example(["a,b", 'c"d', "e\nf", " g ", "é\u2028"], 'Heat, "the" film\n', "")
def test_any_text_survives_the_file(
    tmp_path: Path, ids: list[str], title: str, genres: str
) -> None:
    items = of(*ids, title=title, genres=genres)
    back = Items.read(written(tmp_path / "items.csv", items))
    assert back.rows == items.rows
    assert back.digest() == items.digest()


def test_a_carriage_return_survives_the_file(tmp_path: Path) -> None:
    items = of("a", title="one\rtwo", genres="")
    assert Items.read(written(tmp_path / "items.csv", items)).rows == items.rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "item_id column"),
        (b"item_id,title\n", "at least one row"),
        (b"id,title\na,Heat\n", "item_id column"),
        (b"item_id,title\na,Heat\nb\n", "line 3 has a different number of fields"),
        (b"item_id,title\na,Heat,1995\n", "line 2 has a different number of fields"),
        (b"item_id,title\na,\xe9\n", "not a UTF-8 CSV"),
        (b'item_id,title\na,"Heat\n', "not a UTF-8 CSV"),
        (b"item_id,title\na,x\na,y\n", "appears twice"),
        (b"item_id,title\n,x\n", "is empty"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(content)
    with pytest.raises(ItemsError, match=message):
        Items.read(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Items.read(tmp_path / "items.csv")
