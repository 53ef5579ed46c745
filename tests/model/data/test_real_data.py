"""The published files themselves, where a copy of them is at hand; their counts are well known."""

from pathlib import Path

import pytest

from model.data.interactions import Interactions
from model.data.sources import open_data

FOLDER = Path(__file__).parents[3].parent / "shared" / "data"


def opened(name: str) -> Interactions:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand")
    return open_data(str(path))


@pytest.mark.parametrize(
    ("name", "users", "items", "events", "listed"),
    [
        ("ml-1m.zip", 6_040, 3_706, 1_000_209, 3_883),
        ("ml-latest-small.zip", 610, 9_724, 100_836, 9_742),
        ("amazon-beauty-5core.csv.gz", 22_363, 12_101, 198_502, 12_101),
        ("taobao-userbehavior.csv.gz", 814, 55_233, 84_287, 55_233),
    ],
)
def test_counts(name: str, users: int, items: int, events: int, listed: int) -> None:
    data = opened(name)
    assert (len(data), len(data.items), len(data.item)) == (users, items, events)
    assert data.num_listed == listed


def test_the_order_of_movielens_stays() -> None:
    """Checkpoints depend on it."""
    data = opened("ml-1m.zip")
    assert data.digest().startswith("56ff08e9fdb6f148")
    assert data.items.digest().startswith("e8635ebce2c5cb0b")


def test_the_order_of_amazon_beauty_is_that_of_its_numbers() -> None:
    data = opened("amazon-beauty-5core.csv.gz")
    assert data.user_ids == [str(n) for n in range(1, 22_364)]
    assert data.items.ids == [str(n) for n in range(1, 12_102)]
    assert int(data.lengths().min()) == 5


def test_taobao_has_its_four_behaviours_and_categories() -> None:
    data = opened("taobao-userbehavior.csv.gz")
    assert data.action.bincount().tolist() == [0, 75_693, 4_494, 2_351, 1_749]
    assert all(row["category"] for row in data.items.rows)
