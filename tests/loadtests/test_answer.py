import json
from typing import Any

import pytest

from loadtests.answer import Answer
from loadtests.catalogue import Catalogue
from loadtests.traffic import RETURNING, Traffic


def ranked(**changes: Any) -> dict[str, Any]:
    cache = {"status": "hit", "tier": "device", "reused_events": 180, "encoded_events": 1}
    whole = {"items": [], "complete": True, "degraded": [], "cache": cache, "timing_ms": {"a": 0.5}}
    return whole | changes


def read(kind: str, body: object, status: int = 200) -> Answer:
    return Answer.parse(kind, status, json.dumps(body).encode())


def test_an_answer_is_read() -> None:
    assert read("recommend", ranked()) == Answer(
        status=200,
        complete=True,
        cache_status="hit",
        tier="device",
        reused_events=180,
        encoded_events=1,
        timing_ms={"a": 0.5},
    )


def test_an_answer_becomes_a_sample_with_every_field() -> None:
    catalogue = Catalogue(item_ids=("1",), actions=("a",))
    visit = Traffic(catalogue, population=1, seed=0, run_id="run").begin(RETURNING)
    assert visit is not None
    answer = read("recommend", ranked())
    sample = answer.sample(visit, at_s=1.5, waited_ms=0.25, latency_ms=7.125)
    assert (sample.at_s, sample.waited_ms, sample.latency_ms) == (1.5, 0.25, 7.125)
    assert (sample.kind, sample.user, sample.tier) == ("recommend", RETURNING, "device")
    assert sample.timing_ms == {"a": 0.5}


def test_events_that_are_not_stored_are_not_accepted() -> None:
    assert read("events", {"stored": True}) == Answer(status=200, complete=True)
    unstored = read("events", {"stored": False})
    assert unstored.is_ok
    assert not unstored.accepted
    assert not unstored.complete


def test_a_batch_is_the_sum_of_its_entries() -> None:
    miss = {"status": "miss", "tier": None, "reused_events": 0, "encoded_events": 40}
    late = ranked(cache=miss, complete=False, degraded=["partial_scoring"])
    assert read("batch", {"results": [ranked(), late]}) == Answer(
        status=200,
        degraded=["partial_scoring"],
        cache_status="mixed",
        reused_events=180,
        encoded_events=41,
    )
    assert read("batch", {"results": [ranked(), ranked()]}).complete


def test_a_problem_in_a_batch_is_told() -> None:
    answer = read("batch", {"results": [ranked(), {"status": 429, "code": "overloaded"}]})
    assert answer.code == "overloaded"
    assert not answer.accepted
    assert not answer.complete


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (429, b'{"code": "overloaded"}', "overloaded"),
        (502, b"<html>", "502"),
        (500, None, "500"),
        (200, b"", "unknown_body"),
        (200, b"[]", "unknown_body"),
        (200, json.dumps(ranked(items=None)).encode(), "unknown_body"),
        (200, json.dumps(ranked(cache={"status": "hit"})).encode(), "unknown_body"),
    ],
)
def test_a_failure_has_a_code(status: int, content: bytes | None, code: str) -> None:
    answer = Answer.parse("recommend", status, content)
    assert (answer.status, answer.code) == (status, code)
    assert not answer.is_ok
    assert not answer.accepted


def test_no_answer_is_named_by_its_error() -> None:
    assert Answer.none(TimeoutError()) == Answer(status=0, code="TimeoutError")
