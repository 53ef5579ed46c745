"""Services under load: the same requests for all, right answers, and figures that are counted."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from typer.testing import CliRunner

from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from service.benchmark.load import bare_app
from service.benchmark.load.bare_app import Bare
from service.benchmark.load.figures import figures, percentile
from service.benchmark.load.floods import beside_of, flood_of, ratios_of
from service.benchmark.load.processes import made_up_checkpoint, mfalcon
from service.benchmark.load.recompute_app import create_app
from service.benchmark.load.recompute_forward import full_forward
from service.benchmark.load.setting import Setting
from service.benchmark.load.traffic import Plan, visitors
from service.benchmark.shapes import SHAPES, Shape
from service.cli.main import app
from tests.model.builders import assert_close
from tests.service.builders import (
    ITEM_IDS,
    NOW_S,
    NUM_ITEMS,
    WINDOW,
    history_of,
    make_events,
    serving,
)
from tests.service.test_cli import MACHINE

SHAPE = Shape(
    name="tiny",
    num_layers=2,
    d_model=8,
    num_heads=2,
    head_dim=4,
    num_events=10,
    num_candidates=8,
)
PLAN = Plan(
    num_users=3,
    num_events=5,
    num_candidates=4,
    num_items=60,
    num_actions=3,
    budget_ms=50,
    seed=1,
)


@pytest.mark.parametrize("num_events", [1, 2, 9])
def test_the_recomputing_forward_is_right(checkpoint: Checkpoint, num_events: int) -> None:
    history = history_of(checkpoint, make_events(num_events))
    candidates = torch.tensor([3, 0, 59, 7])
    found = full_forward(checkpoint.network, history, NOW_S, candidates)
    oracle = Oracle(checkpoint.network, history, NOW_S)
    right = [oracle.score(item) for item in candidates.tolist()]
    retrieval, actions = ([getattr(r, name) for r in right] for name in ("retrieval", "actions"))
    assert_close([found.retrieval, found.actions], [torch.stack(retrieval), torch.stack(actions)])


@pytest.mark.anyio
async def test_the_recomputing_service_answers_as_mfalcon_does(
    folder: Path, checkpoint: Checkpoint
) -> None:
    """In two requests, the second of which returns with one more event."""
    events = [event | {"action": "positive"} for event in make_events(8)]
    body = {"user_id": "u", "request_time": NOW_S, "candidates": ITEM_IDS[:9], "num_results": 5}
    transport = httpx.ASGITransport(create_app(checkpoint))
    async with (
        serving(folder) as service,
        httpx.AsyncClient(transport=transport, base_url="http://recompute") as client,
    ):
        assert (await client.get("/health/ready")).status_code == 200
        accepted = await client.post("/events", json={"user_id": "u", "events": events[:6]})
        assert accepted.json() == {"accepted": 6}
        await service.add_events(events[:6])
        for event in events[6:]:
            request: dict[str, Any] = body | {"events": [event], "exclude_seen": False}
            mine = await service.recommend(**request)
            theirs = (await client.post("/recommend", json=request)).json()
            assert theirs["complete"]
            assert len(theirs["items"]) == 5
            for one, other in zip(mine["items"], theirs["items"], strict=True):
                assert one["item_id"] == other["item_id"]
                assert one["score"] == pytest.approx(other["score"], abs=1e-5)
                assert one["actions"] == pytest.approx(other["actions"], abs=1e-5)


@pytest.mark.anyio
async def test_the_bare_service_runs_the_engine_for_the_events_it_gets(
    checkpoint: Checkpoint,
) -> None:
    """It is held to what mfalcon would encode, and reads requests as strictly."""
    events = make_events(8)
    body = {"user_id": "u", "request_time": NOW_S, "candidates": ITEM_IDS[:9]}
    service = Bare(checkpoint)
    transport = httpx.ASGITransport(bare_app.create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://bare") as client:
        assert (await client.get("/health/ready")).status_code == 200
        begun = await client.post("/events", json={"user_id": "u", "events": events[:6]})
        assert begun.json() == {"accepted": 6}
        refused = await client.post("/recommend", json=body | {"num_results": "5"})
        assert refused.status_code == 422
        for event in events[6:]:
            answer = (await client.post("/recommend", json=body | {"events": [event]})).json()
            assert answer["complete"]
            assert answer["timing_ms"]["score"] > 0
    engine = Engine(checkpoint.network)
    history = history_of(checkpoint, events)
    (right,) = engine.encode([EncodeJob(engine.empty_state(), history)])
    found = service.states["u"]
    assert found.history.events == history.events
    assert_close([found.keys, found.values], [right.state.keys, right.state.values])


def test_users_are_the_same_for_every_contender() -> None:
    mine, theirs = visitors(PLAN), visitors(PLAN)
    for one, other in zip(mine, theirs, strict=True):
        assert (one.history, one.candidates) == (other.history, other.candidates)
        assert len(set(one.candidates)) == PLAN.num_candidates
        later = [one.next_event() for _ in range(3)]
        assert later == [other.next_event() for _ in range(3)]
        times = [event.timestamp for event in [*one.history, *later]]
        assert times == sorted(set(times))
    assert mine[0].history != mine[1].history


def test_users_begin_at_all_places_of_their_windows() -> None:
    users = visitors(replace(PLAN, num_users=4, num_phases=8))
    assert [len(user.history) - PLAN.num_events for user in users] == [0, 2, 4, 6]


def test_figures_are_medians_of_rounds() -> None:
    def load(latencies_ms: list[float], elapsed_s: float, num_within: int) -> dict[str, Any]:
        return {
            "latencies_ms": latencies_ms,
            "engine_ms": [ms / 2 for ms in latencies_ms],
            "stages_ms": {"queue": [ms / 4 for ms in latencies_ms]} if latencies_ms else {},
            "elapsed_s": elapsed_s,
            "num_offered": 10,
            "num_within": num_within,
            "num_cut": 2,
            "num_failed": 1,
        }

    found = figures([load([1.0, 2.0, 9.0], 1.0, 3), load([4.0] * 8, 2.0, 2), load([], 1.0, 0)])
    assert (found.whole_per_s, found.within_per_s, found.within_share) == (3.0, 1.0, 0.2)
    assert (found.p50_ms, found.p99_ms, found.p50_engine_ms) == (3.0, 6.5, 1.5)
    assert found.p50_stages_ms == {"queue": 0.75}
    assert (found.num_cut, found.num_failed) == (6, 3)
    nothing = figures([load([], 1.0, 0)])
    assert (nothing.p50_ms, nothing.p50_stages_ms) == (None, {})
    assert [percentile([3.0, 1.0, 2.0, 4.0], percent) for percent in (1, 50, 51, 100)] == [
        1,
        2,
        3,
        4,
    ]


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(
            RuntimeError, match=r"(?s)service did not start: .*a checkpoint is a folder with"
        ),
        mfalcon(tmp_path, []),
    ):
        pass


def test_the_service_gets_room_for_every_user() -> None:
    setting = Setting(
        threads=1, num_users=20, budget_ms=50, store="memory", turn_s=1.0, rounds=1, seed=0
    )
    flags = setting.flags(SHAPES["mid"])
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    state_bytes = 4 * 4 * 2 * 64 * 4 * 2048
    assert int(given["--device-cache-bytes"]) == 2 * 20 * state_bytes
    assert given["--store"] == "memory"
    with made_up_checkpoint(SHAPE, seed=0) as folder:
        assert (folder / "config.json").is_file()
    assert not folder.exists()


def run(*arguments: str) -> dict[str, Any]:
    options = ["--store", "memory", "--seconds", "0.1", "--output", "json"]
    options += ["--rounds", "1"] if arguments[0] != "overload" else []
    done = CliRunner().invoke(app, ["bench", *arguments, "--users", "16", *options])
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    assert set(result) > MACHINE
    return result


def test_the_service_is_measured_against_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "ml-1m", SHAPE)
    result = run("service")
    for load in ("one_client", "many_clients", "bare"):
        assert result[load]["whole_per_s"] > 0
        assert result[load]["num_failed"] == 0
    fastest = max(result["alone_per_s"].values())
    assert result["ratios"]["service_over_engine"] == pytest.approx(
        result["many_clients"]["whole_per_s"] / fastest
    )
    assert result["ratios"]["p50_beyond_engine_ms"] == pytest.approx(
        result["one_client"]["p50_ms"] - result["alone_ms"]
    )
    assert result["ratios"]["p50_beyond_engine_ms"] == pytest.approx(
        result["ratios"]["p50_beyond_bare_ms"] + result["ratios"]["p50_bare_beyond_engine_ms"]
    )
    assert result["ratios"]["p50_bare_beyond_engine_ms"] == pytest.approx(
        result["bare"]["p50_ms"] - result["alone_ms"]
    )
    assert list(result["parts_ms"]) == [
        *("queue", "cache", "encode", "score"),
        *("rest of the handler", "HTTP and client"),
    ]
    assert sum(result["parts_ms"].values()) == pytest.approx(result["one_client"]["p50_ms"])


def test_both_services_get_every_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "mid", SHAPE)
    monkeypatch.setattr("service.benchmark.load.returning.CLIENTS", (1, 3))
    monkeypatch.setattr("service.benchmark.load.returning.RATES", (50.0,))
    result = run("recompute", "--budget-ms", "1000")
    assert set(result["figures"]) == {"mfalcon", "recompute"}
    for loads in result["figures"].values():
        assert set(loads) == {"1 client", "3 clients", "50 requests/s"}
        assert all(load["whole_per_s"] > 0 and load["num_failed"] == 0 for load in loads.values())
    assert result["ratios"]["within_budget_over_recompute"] > 0
    assert result["max_abs_diff"] <= 1e-5


def test_rectools_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rectools", None)
    done = CliRunner().invoke(app, ["bench", "rectools"])
    assert done.exit_code == 2
    assert "make parity" in done.stderr


def test_a_flood_is_counted_by_what_became_of_its_requests() -> None:
    load = {
        "latencies_ms": [10.0, 20.0, 90.0],
        "num_within": 2,
        "num_cut": 2,
        "num_cut_within": 1,
        "refused_ms": [1.0, 2.0, 8.0],
        "num_failed": 4,
        "num_offered": 10,
        "elapsed_s": 2.0,
    }
    flood = flood_of(5.0, 3.0, load, resident_bytes=100, beside=None)
    assert (flood.offered_per_s, flood.answered_per_s) == (5.0, 1.5)
    assert (flood.answered_share, flood.whole_share) == (3 / 7, 3 / 5)
    assert (flood.num_refused, flood.num_failed, flood.refused_p99_ms) == (3, 1, 8.0)
    beside = beside_of(load, {"refused_ms": [3.0, 4.0]})
    assert (beside.answered_per_s, beside.refused_p99_ms) == (1.5, 4.0)
    worst = replace(flood, answered_per_s=1.2, resident_bytes=110, beside=beside)
    assert flood.share == 0.5
    ratios = ratios_of([flood, replace(flood, beside=beside), worst])
    assert ratios == {
        "answered_below": 3 / 7,
        "whole_below": 3 / 5,
        "overload_over_peak": pytest.approx(0.4),
        "overload_over_elsewhere": pytest.approx(0.8),
        "refused_p99_ms": 8.0,
        "refused_elsewhere_p99_ms": 4.0,
        "resident_growth": 1.1,
    }


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="memory is told by /proc alone")
@pytest.mark.parametrize("given", ["shape", "checkpoint"])
def test_a_service_is_flooded(monkeypatch: pytest.MonkeyPatch, folder: Path, given: str) -> None:
    monkeypatch.setitem(SHAPES, "ml-1m", SHAPE)
    options = ["--checkpoint", str(folder)] if given == "checkpoint" else []
    result = run("overload", "--times", "2", "--budget-ms", "1000", *options)
    if given == "checkpoint":
        assert (result["shape"]["num_events"], result["shape"]["num_candidates"]) == (
            WINDOW.keep,
            NUM_ITEMS,
        )
    assert result["peak_per_s"] > 0
    assert [flood["times_peak"] for flood in result["floods"]] == [0.7, 2.0]
    for flood in result["floods"]:
        assert flood["offered_per_s"] > 0
        assert flood["peak_per_s"] > 0
        assert flood["resident_bytes"] > 1 << 20
    below, over = result["floods"]
    assert below["beside"] is None
    assert over["beside"]["answered_per_s"] > 0
    assert over["beside"]["refused_p99_ms"] > 0
