import json
from typing import Any

import pytest

from loadtests.answer import Answer
from loadtests.catalogue import Catalogue
from loadtests.faults.product import Product
from loadtests.traffic import Traffic, Visit


@pytest.fixture
def product() -> Product:
    catalogue = Catalogue(item_ids=tuple("abcdefgh"), actions=("positive",))
    traffic = Traffic(catalogue, population=1, seed=1, run_id="r")
    return Product(traffic, seed=1, began_s=0.0)


def visit_of(product: Product, kind: str) -> Visit:
    """Of the one person; what comes before is not answered."""
    while True:
        visit = product.begin()
        assert visit is not None
        if visit.kind == kind and visit.user != "new":
            return visit
        product.end(visit, Answer(status=0, code="ConnectionResetError"), b"")


def answered(product: Product, kind: str, **more: Any) -> Visit:
    visit = visit_of(product, kind)
    body: dict[str, Any] = {"stored": True}
    if kind == "recommend":
        cache = {"status": more.pop("cache_status", "hit"), "reused_events": 1, "encoded_events": 1}
        body = {"items": [], "complete": True, "degraded": [], "cache": cache}
    content = json.dumps(body | more).encode()
    product.end(visit, Answer.parse(kind, 200, content), content)
    return visit


def num_known(product: Product) -> int:
    return int(visit_of_size(product)["history_size"])


def visit_of_size(product: Product) -> dict[str, Any]:
    visit = visit_of(product, "recommend")
    product.end(visit, Answer(status=0, code="ConnectionResetError"), b"")
    return dict(visit.body)


def test_events_that_were_not_accepted_come_again_and_count_once(product: Product) -> None:
    first = visit_of_size(product)
    again = visit_of_size(product)
    assert again["events"][: len(first["events"])] == first["events"]
    assert first["history_size"] == len(first["events"])
    assert again["history_size"] == len(again["events"])
    assert "history_mode" not in again


@pytest.mark.parametrize(
    "loss",
    [
        {"degraded": ["store_unavailable"], "complete": False},
        {"degraded": ["history_incomplete"], "complete": False},
        {"cache_status": "error"},
    ],
)
def test_the_whole_history_is_sent_until_it_is_held(product: Product, loss: Any) -> None:
    answered(product, "recommend")
    lost = answered(product, "recommend", **loss)
    repair = answered(product, "recommend", **loss)
    assert repair.body["history_mode"] == "replace"
    assert len(repair.body["events"]) == repair.body["history_size"]
    assert repair.body["history_size"] >= lost.body["history_size"]
    repair = answered(product, "recommend")
    assert repair.body["history_mode"] == "replace"
    assert "history_mode" not in answered(product, "recommend").body


def test_what_was_not_stored_is_sent_whole(product: Product) -> None:
    lost = answered(product, "events", stored=False)
    assert product.acknowledged() == {}
    repair = answered(product, "events")
    assert repair.body["history_mode"] == "replace"
    assert repair.body["events"][: len(lost.body["events"])] == lost.body["events"]
    (num_acknowledged,) = product.acknowledged().values()
    assert num_acknowledged == len(repair.body["events"])


def test_what_an_answer_shows_to_be_held_is_acknowledged(product: Product) -> None:
    answered(product, "recommend", cache_status="miss")
    assert product.acknowledged() == {}
    answer = answered(product, "recommend")
    (num_acknowledged,) = product.acknowledged().values()
    assert num_acknowledged == answer.body["history_size"] - len(answer.body["events"]) > 0


def test_answers_are_kept_with_what_was_known_then(product: Product) -> None:
    visits = [answered(product, "recommend") for _ in range(3)]
    assert [given.num_known for given in product.given] == [
        visit.body["history_size"] for visit in visits
    ]
    first, last = product.given[0], product.given[-1]
    assert product.history(last)[: first.num_known] == product.history(first)
    assert product.history(first) == visits[0].body["events"]
