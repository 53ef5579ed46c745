import asyncio
import time
from itertools import pairwise
from random import Random

import pytest

from loadtests.answer import Answer
from loadtests.catalogue import Catalogue
from loadtests.openloop import OfTraffic, OpenLoop, arrivals
from loadtests.port import free_port
from loadtests.record import Sample
from loadtests.traffic import Traffic, Visit

pytestmark = pytest.mark.anyio


async def loaded(host: str, rate: float = 100.0, population: int = 50) -> list[Sample]:
    catalogue = Catalogue(
        item_ids=tuple(str(item) for item in range(1, 301)),
        actions=("positive",),
        max_events=100,
        max_candidates=100,
    )
    turns = OfTraffic(Traffic(catalogue, population=population, seed=1, run_id="r"))
    samples: list[Sample] = []
    loop = OpenLoop(host, turns, samples.append, began_s=time.perf_counter())
    await loop.run(rate, 0.5, Random(1))
    loop.close()
    return samples


def test_arrivals_come_at_the_rate_and_at_random() -> None:
    times = list(arrivals(100.0, 50.0, Random(1)))
    assert 4700 < len(times) < 5300
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= 0
    # Of a Poisson process, the deviation of the gaps is their mean.
    mean = sum(gaps) / len(gaps)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.15)
    assert times == list(arrivals(100.0, 50.0, Random(1)))


async def test_everything_due_is_sent_and_told(service_url: str) -> None:
    samples = await loaded(service_url)
    assert len(samples) == len(list(arrivals(100.0, 0.5, Random(1))))
    assert {sample.status for sample in samples} == {200}
    assert sorted(sample.at_s for sample in samples)[0] >= 0
    assert all(sample.latency_ms >= sample.waited_ms >= 0 for sample in samples)


async def test_a_refusal_is_told_as_one(overloaded_url: str) -> None:
    samples = await loaded(overloaded_url)
    assert {(sample.status, sample.code) for sample in samples} == {(429, "overloaded")}


async def test_nobody_there_is_told_as_no_answer() -> None:
    samples = await loaded(f"http://127.0.0.1:{free_port()}")
    assert {(sample.status, sample.code) for sample in samples} == {(0, "ConnectionRefusedError")}


async def test_what_waits_for_a_person_is_counted_from_when_it_was_due(service_url: str) -> None:
    """A population of a few is soon all busy."""
    samples = await loaded(service_url, rate=400.0, population=8)
    assert len(samples) == len(list(arrivals(400.0, 0.5, Random(1))))
    assert {sample.status for sample in samples} == {200}


class NoMore:
    def begin(self) -> Visit | None:
        return None

    def end(self, visit: Visit, answer: Answer, body: bytes) -> None:
        raise AssertionError((visit, answer, body))


async def test_it_ends_when_there_are_no_more_visits() -> None:
    loop = OpenLoop("http://127.0.0.1:9", NoMore(), print, began_s=time.perf_counter())
    async with asyncio.timeout(10):
        await loop.run(100.0, 3600.0, Random(1))
