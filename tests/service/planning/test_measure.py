"""Costs are fitted to what was timed, kept in a file and read back; the commands print plans."""

import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.cli.plan import measured
from service.planning.costs import Costs, CostsError, Factors
from service.planning.engine_costs import fitted
from service.planning.fit import fitted_to_loads
from service.planning.measure import served
from service.planning.observe import CLIENTS, Observations, Observed, undisturbed
from service.planning.replay import work_of
from service.planning.rig import PATIENT_MS
from service.planning.simulation import Asked, saturate, simulate
from tests.service.planning.made_up import COSTS
from tests.service.test_cli import MACHINE


def invoke(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_costs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    COSTS.write(path)
    assert Costs.read(path) == COSTS


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"engine": {}}'])
def test_a_file_without_costs_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(CostsError, match=r"costs\.json.*--measure"):
        Costs.read(path)


def test_costs_are_fitted_and_never_below_nothing() -> None:
    sizes = [(1, jobs, rows) for jobs, rows in ((1, 2), (4, 8), (16, 32), (1, 100), (1, 200))]
    times = [0.5 + 0.3 * jobs + 0.02 * rows for _, jobs, rows in sizes]
    assert fitted(sizes, times) == pytest.approx([0.5, 0.3, 0.02])
    falling = fitted([(1, size) for size in (1, 10, 100)], [5.0, 4.0, 3.0])
    assert falling[1] == 0
    assert 3 < falling[0] < 5


def test_waiting_for_others_is_not_what_a_request_takes() -> None:
    stages = {"queue": [0.2, 0.3, 5.0, 0.2], "encode": [1.0] * 4, "score": [4.0, 4.0, 4.0, 5.0]}
    due_s, latencies_ms = [0.0, 2.0, 1.0, 0.5], [8.0, 9.0, 20.0, 9.0]
    load = {"due_s": due_s, "latencies_ms": latencies_ms, "stages_ms": stages, "elapsed_s": 3.0}
    found = served([load] * 10)
    assert [each.at_s for each in found[:5]] == [0.0, 0.5, 1.0, 2.0, 3.0]
    assert [each.is_at_once for each in found[:4]] == [True, True, False, True]
    assert [each.engine_ms for each in found[:4]] == [5.0, 6.0, 5.0, 5.0]
    # The usual wait is a quarter of a millisecond: the engine's thread wakes up.
    assert [each.rest_ms for each in found[:4]] == pytest.approx([3.0, 3.0, 10.25, 3.95])
    with pytest.raises(RuntimeError, match="engine free"):
        served([load])


def test_a_plan_is_printed_from_costs_and_a_file_of_traffic(tmp_path: Path) -> None:
    costs, traffic = tmp_path / "costs.json", tmp_path / "traffic.toml"
    COSTS.write(costs)
    traffic.write_text("users = 5000\nrequests_per_s = 50.0\nsticky = true\n")
    options = ("plan", "--costs", costs, "--traffic", traffic, "--budget-ms", 80)
    code, told, _ = invoke(*options, "--output", "json")
    assert code == 0
    result: dict[str, Any] = json.loads(told)
    assert result["traffic"]["users"] == 5000
    assert result["traffic"]["budget_ms"] == 80
    assert result["replicas"] == 1
    assert result["machine"] == COSTS.machine
    code, told, _ = invoke(*options)
    assert code == 0
    assert "replicas" in told
    assert "Redis memory" in told


def test_what_can_not_be_planned_is_said(tmp_path: Path) -> None:
    costs = tmp_path / "costs.json"
    COSTS.write(costs)
    code, _, told = invoke("plan", "--costs", costs, "--budget-ms", 1)
    assert (code, "no number of replicas" in told) == (1, True)
    code, _, told = invoke("plan", "--costs", costs, "--measure", costs)
    assert (code, "one of them" in told) == (2, True)
    code, _, told = invoke("plan", "--costs", costs, "--zipf", 9)
    assert (code, "--zipf" in told) == (2, True)
    (tmp_path / "traffic.toml").write_text("user = 3")
    code, _, told = invoke("plan", "--costs", costs, "--traffic", tmp_path / "traffic.toml")
    assert (code, "user" in told) == (2, True)
    code, _, told = invoke("plan", "--costs", tmp_path / "none.json")
    assert (code, "none.json" in told) == (2, True)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="threads are told by Linux")
def test_a_service_is_measured_and_predicted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.planning.measure._LEAST_AT_ONCE", 1)
    monkeypatch.setattr("service.planning.observe._STARVED", math.inf)
    seen: list[tuple[Costs, Observations]] = []

    def once(*arguments: Any, **options: Any) -> tuple[Costs, Observations]:
        if not seen:
            seen.append(measured(*arguments, **options))
        return seen[0]

    monkeypatch.setattr("service.cli.bench.plan.measured", once)
    monkeypatch.setattr("service.cli.plan.measured", once)
    sizes: tuple[object, ...] = ("--checkpoint", folder, "--candidates", 20, "--history-events", 8)
    sizes = (*sizes, "--seconds", 0.4, "--rounds", 1)
    code, told, error = invoke("bench", "plan", *sizes, "--output", "json")
    assert code == 0, error
    result = json.loads(told)
    assert set(result) > MACHINE
    for rate in result["rates"]:
        assert rate["num_measured"] > 0
        for figure in rate["figures"]:
            assert figure["predicted"] > 0
            assert figure["measured"] > 0
            assert rate["ratios"][figure["name"]] == pytest.approx(
                figure["predicted"] / figure["measured"]
            )
    assert len(result["fitted"]) == 4
    kept = tmp_path / "costs.json"
    planned = ("--measure", kept, "--requests-per-s", 20, "--users", 500, "--budget-ms", 1000)
    code, told, error = invoke("plan", *sizes, *planned, "--in-time", 0.5, "--output", "json")
    assert code in (0, 1), error  # a machine that others keep busy may be too slow for any plan
    costs = Costs.read(kept)
    assert costs.num_candidates == 20
    assert costs.redis.state_bytes > 100
    assert costs.redis.memory_over_bytes > 1
    assert costs.redis.sent_bytes > 0


def test_loads_that_other_programs_spoilt_are_left_out() -> None:
    calm = Observed({"latencies_ms": [9.0, 30.0]}, 2.0, 0.5, 0, 0)
    without_cores = replace(calm, waited_s=2.1)
    stopped = replace(calm, load={"latencies_ms": [9.0, 40_000.0]})
    assert undisturbed("light", [calm, without_cores, calm, stopped]) == [calm, calm]
    with pytest.raises(RuntimeError, match="all rounds of light"):
        undisturbed("light", [stopped])


def test_costs_between_two_loads_lie_between_those_of_both() -> None:
    factors = [Factors(per_s=50, cost=1.0, noise=1.0), Factors(per_s=150, cost=0.8, noise=0.5)]
    costs = replace(COSTS, factors=factors, noise=[(0.0, 2.0, 4.0)])
    same, middle, most = (costs.under(per_s) for per_s in (10, 100, 1000))
    assert replace(same, noise=costs.noise) == costs
    assert (middle.loop_ms, middle.beyond_ms) == pytest.approx((0.9, 0.45))
    assert middle.engine.encode_ms(2, 3) == pytest.approx(0.9 * costs.engine.encode_ms(2, 3))
    assert most.engine.score_ms(500) == pytest.approx(0.8 * costs.engine.score_ms(500))
    assert most.noise == [(0.0, 1.5, 2.0)]


@pytest.mark.parametrize("truth", [(0.7, 0.5), (1.2, 2.0)])
def test_what_a_load_makes_of_the_costs_is_found(truth: tuple[float, float]) -> None:
    """Loads that were simulated with factors, in the place of measured ones."""
    rng, at_s, noise = Random(3), 0.0, []
    for _ in range(400):
        at_s += rng.expovariate(40)
        noise.append((at_s, rng.lognormvariate(0, 0.3), rng.expovariate(1) - 0.7))
    costs = replace(COSTS, noise=noise)
    light, busy = (_simulated(costs, rate, *truth) for rate in (40.0, 90.0))
    cost = replace(costs, engine=costs.engine.times(truth[0]), loop_ms=truth[0] * costs.loop_ms)
    costs = replace(costs, peak_per_s=saturate(cost, work_of(costs), CLIENTS, 3000).whole_per_s)
    seen = Observations([], light, [busy], {}, 0)
    turns: list[str] = []
    found = fitted_to_loads(costs, seen, on_turn=lambda name, *_: turns.append(name)).factors
    assert [each.per_s for each in found] == sorted(each.per_s for each in found)
    assert [each.cost for each in found] == pytest.approx([truth[0]] * 3, rel=0.1)
    assert [each.noise for each in found] == pytest.approx([truth[1]] * 3, rel=0.3)
    assert len(turns) == 3


def _simulated(costs: Costs, rate: float, cost: float, noise: float) -> list[Observed]:
    asked_s: list[float] = []
    rng, at_s = Random(7), 0.0
    while len(asked_s) < 800:
        at_s += rng.expovariate(rate)
        asked_s.append(at_s)
    really = costs.times(Factors(per_s=rate, cost=cost, noise=noise))
    asked = [Asked(at_s, work_of(costs)) for at_s in asked_s]
    latencies_ms = simulate(really, asked, PATIENT_MS).latencies_ms
    load = {"asked_s": asked_s, "latencies_ms": latencies_ms, "elapsed_s": at_s}
    return [Observed(load, 1.0, 0.0, 0, 0)]
