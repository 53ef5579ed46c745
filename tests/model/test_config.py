"""Which configurations are possible, and that an impossible one names its field."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from model.config import NO_ACTION, ActionTask, HSTUConfig, ValueFormula, Window
from model.presets import native


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 0) for name in ("d_model", "num_layers", "num_heads")),
        *((name, 0) for name in ("qk_dim", "v_dim")),
        *((name, 0.0) for name in ("norm_eps", "temperature")),
        ("num_heads", -1),
        ("num_layers", 1.5),
        ("d_model", "wide"),
        ("divisor", 0.0),
        ("divisor", -3.0),
        ("divisor", "total"),
        ("bias_heads", "each"),
        ("residual", "output"),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("window", {"capacity": 1, "keep": 1}),
        ("window", {"capacity": 8}),
        ("heads", 4),
    ],
)
def test_an_impossible_value_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"(?m)^{field}\b"):
        native(5, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("keys", "input"), ("attention_norm", "none"), ("gate", "none"), ("attention_dropout", 0.1)],
)
def test_what_softmax_attention_alone_has_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=f"{field}: {value} goes with attention softmax"):
        native(5, **{field: value})


def test_no_items_are_impossible() -> None:
    with pytest.raises(ValidationError, match="num_items"):
        native(0)


def test_a_window_that_keeps_more_than_it_holds_is_impossible() -> None:
    with pytest.raises(ValidationError, match=r"window\.keep 9 exceeds window\.capacity 8"):
        Window(capacity=8, keep=9)
    assert Window(capacity=8, keep=8).keep == 8


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, math.inf) for name in ("divisor", "temperature", "norm_eps")),
        ("value", {"retrieval": math.nan}),
        ("value", {"actions": {"positive": math.inf}}),
    ],
)
def test_a_value_that_is_not_finite_is_impossible(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        native(5, **{field: value})


def test_an_action_belongs_to_one_task() -> None:
    tasks = (ActionTask(name="a", actions=("x", "y")), ActionTask(name="b", actions=("y",)))
    with pytest.raises(ValidationError, match=r"tasks: an action appears twice.*'y'"):
        HSTUConfig(num_items=5, tasks=tasks)


def test_the_value_formula_knows_only_actions_of_tasks() -> None:
    with pytest.raises(ValidationError, match=r"value\.actions: \['liked'\] are not actions"):
        native(5, value=ValueFormula(actions={"positive": 1.0, "liked": 2.0}))


def test_a_task_without_actions_is_impossible() -> None:
    with pytest.raises(ValidationError, match="actions"):
        ActionTask(name="empty", actions=())


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_task_without_weight_is_impossible(weight: float) -> None:
    with pytest.raises(ValidationError, match="weight"):
        ActionTask(name="a", actions=("x",), weight=weight)


def test_native_is_ratings_as_actions() -> None:
    config = native(7)
    assert (config.num_items, config.divisor, config.residual) == (7, "count", "normed")
    assert config.actions == ("negative", "neutral", "positive")
    assert config.value.actions == {"positive": 1.0, "negative": -1.0}


def test_native_takes_any_field_instead_of_its_own() -> None:
    window = Window(capacity=10, keep=4)
    config = native(7, d_model=8, window=window, divisor=30, value=ValueFormula(retrieval=0.0))
    assert (config.d_model, config.window, config.divisor) == (8, window, 30.0)
    assert config.value == ValueFormula(retrieval=0.0)
    assert config.num_heads == native(7).num_heads


def test_actions_follow_the_tasks_and_leave_room_for_no_action() -> None:
    tasks = (
        ActionTask(name="watch", kind="multilabel", actions=("click", "finish")),
        ActionTask(name="rating", actions=("up",)),
    )
    config = HSTUConfig(num_items=5, tasks=tasks)
    assert config.actions == ("click", "finish", "up")
    assert config.action_index == {"click": 1, "finish": 2, "up": 3}
    assert NO_ACTION not in config.action_index.values()


@pytest.mark.parametrize(("bias_heads", "count"), [("shared", 1), ("per_head", 3)])
def test_biases_are_kept_once_or_per_head(bias_heads: str, count: int) -> None:
    assert native(5, num_heads=3, bias_heads=bias_heads).num_bias_heads == count


def test_a_configuration_survives_json() -> None:
    config = native(5, divisor=30.0, window=Window(capacity=10, keep=4))
    assert HSTUConfig.model_validate_json(config.model_dump_json()) == config


def test_a_configuration_never_changes() -> None:
    config = native(5)
    with pytest.raises(ValidationError, match="frozen"):
        config.num_items = 6
