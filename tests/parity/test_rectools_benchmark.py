"""`mfalcon bench rectools`: RecTools, the engine and the service give the same list."""

import pytest

from service.benchmark.load.setting import Setting
from service.benchmark.peers import rectools_contest
from service.benchmark.shapes import Shape

rectools = pytest.importorskip("rectools", reason="needs RecTools: make parity")

SHAPE = Shape(
    name="tiny",
    num_layers=2,
    d_model=16,
    num_heads=2,
    head_dim=8,
    num_events=12,
    num_candidates=5,
)
SETTING = Setting(
    threads=1, num_users=1, budget_ms=1000, store="memory", turn_s=0.0, rounds=2, seed=0
)


@pytest.mark.parametrize("positions", [True, False])
def test_all_three_give_the_same_list(positions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rectools.__version__.startswith("0.19")
    monkeypatch.setattr(rectools_contest, "NUM_ITEMS", 30)
    monkeypatch.setattr(rectools_contest, "NUM_RANKED", 12)
    monkeypatch.setattr(rectools_contest, "CALLS", 2)
    turns: list[str] = []
    found = rectools_contest.measure_rectools(
        SHAPE, SETTING, positions=positions, on_turn=lambda name, *_: turns.append(name)
    )
    assert turns == ["rectools", "engine", "http"] * 3
    assert found.same_items
    assert found.max_abs_diff <= 1e-5
    assert ("across requests" in found.cacheability) is not positions
    for name in ("engine", "http"):
        ratio = found.median_ms["rectools"] / found.median_ms[name]
        assert found.ratios[f"rectools_over_{name}"] == ratio > 0
