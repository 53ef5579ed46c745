"""Order of users, of items, and of the events of one user."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.frame import from_frame
from model.presets import RATING_TASK
from tests.model.data.cases import events_of

ROWS = st.lists(
    st.tuples(st.integers(-3, 12), st.integers(0, 12), st.integers(0, 3), st.integers(0, 3)),
    min_size=1,
    max_size=60,
)


@given(ROWS, st.sampled_from(["", "x"]), st.booleans())
def test_events_are_in_stable_order_of_time(
    rows: list[tuple[int, int, int, int]], prefix: str, text: bool
) -> None:
    """Against Python's own sort, which is stable."""
    ids = [(f"{prefix}{u}", f"{prefix}{i}") for u, i, _, _ in rows]
    columns = {
        "user": [user for user, _ in ids] if prefix or text else [row[0] for row in rows],
        "item": [item for _, item in ids] if prefix or text else [row[1] for row in rows],
        "timestamp": [row[2] for row in rows],
        "action": [row[3] for row in rows],
    }
    data = from_frame(pl.DataFrame(columns), tasks=(RATING_TASK,))
    expected: dict[str, list[tuple[str, int, int]]] = {}
    for (user, item), (_, _, time, action) in zip(ids, rows, strict=True):
        expected.setdefault(user, []).append((item, action, time))
    assert events_of(data) == {
        user: sorted(events, key=lambda event: event[2]) for user, events in expected.items()
    }

    def place(identifier: str) -> tuple[int, str]:
        return (0, identifier) if prefix else (int(identifier), "")

    assert data.user_ids == sorted(expected, key=place)
    assert data.items.ids == sorted({item for _, item in ids}, key=place)
    assert data.num_listed == len(data.items)


@pytest.mark.parametrize(
    ("ids", "ordered"),
    [
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["10", "9", "07"], ["07", "10", "9"]),
        (["7", "07", "+7", "7.0"], ["+7", "07", "7", "7.0"]),
        (["10", "9", "99999999999999999999"], ["10", "9", "99999999999999999999"]),
        (["b", "a", "\u00e9", "B"], ["B", "a", "b", "\u00e9"]),
    ],
)
def test_numbers_are_ordered_as_numbers_if_all_are(ids: list[str], ordered: list[str]) -> None:
    data = from_frame(pl.DataFrame({"user": ids, "item": ids, "timestamp": range(len(ids))}))
    assert data.user_ids == data.items.ids == ordered
    assert data.action.tolist() == [0] * len(ids)


def test_repeated_rows_are_kept_and_counted() -> None:
    events = pl.DataFrame({"user": [1, 2, 1, 1, 1], "item": 3, "timestamp": [5, 5, 5, 6, 5]})
    data = from_frame(events, notes=("first",))
    assert data.lengths().tolist() == [4, 1]
    assert data.notes == (
        "first",
        "2 rows repeat another row exactly: all are kept",
        "1 of 2 users have one event only",
    )
