"""A grid file says what each run has, and a wrong one what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.ablation.grid import GridError, read
from model.ablation.runner import check
from tests.model.ablation.grids import BASE, DATA, grid

COMMITTED = sorted((Path(__file__).parents[3] / "grids").glob("*.toml"))


def test_variants_differ_from_the_base_in_what_they_say_alone() -> None:
    asked = grid(
        seeds=[4, 9],
        base=BASE | {"set": {"residual": "input", "gate": "sigmoid"}},
        variants={"wide": {"d_model": 16}, "normed": {"set": {"residual": "normed"}}},
    )
    runs = asked.runs()
    assert [(run.variant, run.seed) for run in runs] == [
        (name, seed) for seed in (4, 9) for name in ("base", "wide", "normed")
    ]
    configs = [run.recipe.config(DATA) for run in runs[:3]]
    assert [config.d_model for config in configs] == [8, 16, 8]
    assert [config.residual for config in configs] == ["input", "input", "normed"]
    assert {config.gate for config in configs} == {"sigmoid"}
    assert {run.recipe.options.epochs for run in runs} == {3}
    assert runs[4].folder(Path("out")) == Path("out/wide/seed-9")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds: one appears twice"),
        ({"question": ""}, "question"),
        ({"variants": {"base": {}}}, "base is the name of the base"),
        ({"variants": {"../up": {}}}, "variants"),
        ({"axes": {}}, "axes"),
    ],
)
def test_a_wrong_grid_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        grid(**fields)


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"layer": 2}, "odd: layer: "),
        ({"preset": "bert"}, "odd: preset: no bert; there are native"),
        ({"seed": 3}, "odd: seed: seeds are told once"),
        ({"num_held_out": 1}, "odd: num_held_out"),
        ({"set": {"gate": "relu"}}, "odd: configuration: gate"),
        ({"set": {"speed": 9}}, "odd: configuration: speed"),
        ({"set": {"repeat_bias": True}, "loss": "sampled"}, "odd: repeat_bias: is learnt with"),
    ],
)
def test_a_wrong_variant_is_named_before_anything_runs(own: dict[str, Any], named: str) -> None:
    with pytest.raises(GridError, match=named):
        check(grid(variants={"odd": own}).runs(), DATA)


@pytest.mark.parametrize(
    ("text", "named"),
    [("question", "is not TOML"), ("question = 3", "question"), ("seeds = [0]", "variants")],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(GridError, match=rf"grid\.toml.*{named}"):
        read(path)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.stem))
def test_a_committed_grid_can_be_run(path: Path) -> None:
    check(read(path).runs(), DATA)
