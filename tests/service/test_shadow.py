"""A share of the answers is compared with the oracle; what differs is an error, of no user."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cache import Dtype
from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.oracle import Oracle
from model.history import History
from service.exactness import PRODUCT_TOLERANCE, TOLERANCE, Allowed, relative_tolerance
from service.metrics import Metrics
from service.oracle_process import OracleProcess, OracleUnavailable
from service.ranking import Ranking
from service.shadow import Shadow
from tests.service.builders import (
    JSON,
    NOW_S,
    Service,
    history_of,
    make_events,
    serving,
    write_checkpoint,
)

pytestmark = pytest.mark.anyio


class OracleHere(OracleProcess):
    """The oracle in this process, at once; off by `error`."""

    def __init__(self, checkpoint: Checkpoint, error: float = 0.0) -> None:
        super().__init__(Path(), b"")
        self._network, self._error = checkpoint.network, error
        self.num_asked = 0

    async def score(
        self, history: History, request_time: int, candidates: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        self.num_asked += 1
        scores = [Oracle(self._network, history, request_time).score(c) for c in candidates]
        retrieval = torch.stack([score.retrieval for score in scores])
        return retrieval + self._error, torch.stack([score.actions for score in scores])


class Absent(OracleHere):
    async def score(self, *_: object) -> tuple[Tensor, Tensor]:
        raise OracleUnavailable("not today")


def ranking_of(engine: Engine, checkpoint: Checkpoint, num_events: int = 5) -> Ranking:
    """Right, of all items, half of them scored."""
    history = history_of(checkpoint, make_events(num_events))
    (encoded,) = engine.encode([EncodeJob(engine.empty_state(), history, NOW_S)])
    assert encoded.live is not None
    order = torch.arange(checkpoint.config.num_items)
    (logits,) = engine.score([Microbatch(encoded.live, order[: len(order) // 2])])
    return Ranking(
        state=encoded.state,
        shortcut=None,
        num_reused=0,
        num_encoded=num_events,
        order=order,
        retrieval=engine.retrieve(encoded.live),
        logits=logits,
        num_jobs=1,
        num_rows=num_events,
        started_s=0.0,
        encode_ms=0.0,
        score_ms=0.0,
    )


@asynccontextmanager
async def shadow(
    oracle: OracleProcess, metrics: Metrics, *, allowed: Allowed | None = None, idle: bool = True
) -> AsyncIterator[Shadow]:
    made = Shadow(oracle, metrics, share=1.0, allowed=allowed or Allowed(), is_idle=lambda: idle)
    yield made
    await made.close()


def outcomes(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.shadow_checks.collect()
    return {s.labels["outcome"]: s.value for s in family.samples if s.name.endswith("_total")}


async def test_right_answers_are_equal(engine: Engine, checkpoint: Checkpoint) -> None:
    metrics = Metrics()
    async with shadow(OracleHere(checkpoint), metrics) as checking:
        for _ in range(3):
            checking.offer("r", ranking_of(engine, checkpoint), NOW_S)
        await checking.drain()
    assert outcomes(metrics) == {"equal": 3, "differs": 0, "skipped": 0}
    largest = metrics.registry.get_sample_value("mfalcon_shadow_largest_difference")
    assert largest is not None
    assert 0 < largest <= TOLERANCE
    assert metrics.registry.get_sample_value("mfalcon_shadow_allowed_difference") == TOLERANCE
    assert metrics.registry.get_sample_value("mfalcon_shadow_difference_count") == 3


@pytest.mark.parametrize("error", [1e-3, float("nan")])
async def test_a_difference_is_an_error_with_the_request(
    engine: Engine, checkpoint: Checkpoint, log: list[JSON], error: float
) -> None:
    metrics = Metrics()
    async with shadow(OracleHere(checkpoint, error), metrics) as checking:
        checking.offer("the-request", ranking_of(engine, checkpoint), NOW_S)
        await checking.drain()
    assert outcomes(metrics) == {"equal": 0, "differs": 1, "skipped": 0}
    (line,) = [line for line in log if line["log_level"] == "error"]
    assert line["request_id"] == "the-request"
    assert line["difference"] > line["allowed"] == TOLERANCE
    assert set(line) == {"event", "log_level", "request_id", "difference", "allowed", "unit"}


async def test_narrow_numbers_are_compared_with_the_largest_logit(
    engine: Engine, checkpoint: Checkpoint
) -> None:
    ranking = ranking_of(engine, checkpoint)
    largest = float(ranking.retrieval.abs().max())
    metrics, allowed = Metrics(), Allowed(0.01, "largest logit")
    for share in (0.009, 0.011):
        async with shadow(OracleHere(checkpoint, share * largest), metrics, allowed=allowed) as it:
            it.offer("r", ranking, NOW_S)
            await it.drain()
    assert outcomes(metrics) == {"equal": 1, "differs": 1, "skipped": 0}


def test_what_is_allowed_follows_the_numbers() -> None:
    stored = {name: relative_tolerance(Dtype.named(name)) for name in ("bfloat16", "int8")}
    assert Allowed.of("float32", "float32") == Allowed(TOLERANCE, "logits")
    for name, share in stored.items():
        assert Allowed.of("float32", name) == Allowed(share, "largest logit")
    assert Allowed.of("bfloat16", "bfloat16").difference == PRODUCT_TOLERANCE
    assert Allowed.of("bfloat16", "int8").difference == PRODUCT_TOLERANCE + stored["int8"]


async def test_it_waits_for_idle_time_and_takes_only_a_few(
    engine: Engine, checkpoint: Checkpoint
) -> None:
    metrics, oracle = Metrics(), OracleHere(checkpoint)
    ranking = ranking_of(engine, checkpoint)
    async with shadow(oracle, metrics, idle=False) as checking:
        for _ in range(100):
            checking.offer("r", ranking, NOW_S)
        await asyncio.sleep(0.1)
    assert oracle.num_asked == 0
    assert outcomes(metrics) == {"equal": 0, "differs": 0, "skipped": 92}


async def test_an_absent_oracle_is_told_and_stops_nothing(
    engine: Engine, checkpoint: Checkpoint, log: list[JSON]
) -> None:
    metrics = Metrics()
    async with shadow(Absent(checkpoint), metrics) as checking:
        checking.offer("r", ranking_of(engine, checkpoint), NOW_S)
        while outcomes(metrics)["skipped"] < 1:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.001)
    assert [line["detail"] for line in log] == ["not today"]


async def compared(service: Service) -> dict[str, float]:
    """Once everything taken is."""
    shadow = service.runtime.recommender().shadow
    assert shadow is not None
    await shadow.drain()
    return outcomes(service.runtime.metrics)


async def test_live_answers_are_compared_in_a_process_of_its_own(
    folder: Path, log: list[JSON]
) -> None:
    async with serving(folder, shadow_share=1.0, max_budget_ms=60_000) as service:
        await service.recommend(user_id="hush", events=make_events(9))
        await service.recommend(user_id="hush", events=make_events(6, first=9))  # past the window
        await service.recommend(user_id="hush", candidates=["i1"])
        await service.recommend(user_id="nobody")
        await service.recommend(budget_ms=1e-6)  # by popularity: the model was not run
        assert await compared(service) == {"equal": 4, "differs": 0, "skipped": 0}
    assert "hush" not in str(log)


async def test_another_checkpoint_in_the_folder_is_no_oracle(
    tmp_path: Path, log: list[JSON]
) -> None:
    oracle = OracleProcess(write_checkpoint(tmp_path / "other", seed=1), bytes(16))
    with pytest.raises(OracleUnavailable, match="another checkpoint"):
        await oracle.score(History.of([]), NOW_S, [0])
    assert not log


async def test_none_is_taken_by_default(service: Service) -> None:
    await service.recommend(events=make_events(3))
    assert service.runtime.recommender().shadow is None


async def test_an_oracle_that_ends_is_started_again(folder: Path, checkpoint: Checkpoint) -> None:
    oracle = OracleProcess(folder, checkpoint.digests().fingerprint)
    history = history_of(checkpoint, make_events(3))
    before, _ = await oracle.score(history, NOW_S, [1, 2])
    assert oracle._process is not None
    oracle._process.kill()
    await oracle._process.wait()
    with pytest.raises(OracleUnavailable):
        await oracle.score(history, NOW_S, [1, 2])
    after, _ = await oracle.score(history, NOW_S, [1, 2])
    await oracle.close()
    assert after.tolist() == before.tolist()


async def test_the_oracle_rounds_its_answers_alone(folder: Path, checkpoint: Checkpoint) -> None:
    oracle = OracleProcess(folder, checkpoint.digests().fingerprint)
    history = history_of(checkpoint, make_events(3))
    retrieval, _ = await oracle.score(history, NOW_S, [1, 2])
    await oracle.close()
    exact = Oracle(deepcopy(checkpoint.network).double(), history, NOW_S)
    assert retrieval.tolist() == [float(exact.score(item).retrieval.float()) for item in (1, 2)]
