"""Owns the configuration of one HSTU checkpoint: shape, window, action tasks, value formula.

Never touches tensors. Everything here is part of the fingerprint: change a field and the states
written under the old value are no longer found.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NO_ACTION = 0
"""Action index of "no action yet": every candidate row, and an event that carries no action."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ActionTask(_Frozen):
    """One prediction task over some of the actions.

    `multiclass`: exactly one of `actions` happens (softmax).
    `multilabel`: each happens or not on its own (sigmoid).
    """

    name: str
    kind: Literal["multiclass", "multilabel"] = "multiclass"
    actions: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0, description="weight of the task in the training loss")


class Window(_Frozen):
    """Which events of a user the model sees.

    A window grows to `capacity` events; the next event rebuilds it from the newest `keep`. Its
    start is a pure function of the number of events so far, so the same history gives the same
    window however it was cut into appends.
    """

    capacity: int = Field(ge=2)
    keep: int = Field(ge=1)

    @model_validator(mode="after")
    def _keep_fits(self) -> Self:
        if self.keep > self.capacity:
            raise ValueError(f"window.keep {self.keep} exceeds window.capacity {self.capacity}")
        return self

    def start(self, num_events: int) -> int:
        """Index of the first event in the window of a history of `num_events` events."""
        if num_events <= self.capacity:
            return 0
        step = self.capacity + 1 - self.keep
        return step * -(-(num_events - self.capacity) // step)


class ValueFormula(_Frozen):
    """The score a list is sorted by: retrieval * logit + sum of actions[a] * P(a)."""

    retrieval: float = 1.0
    actions: dict[str, float] = Field(default_factory=dict)


class HSTUConfig(_Frozen):
    """One HSTU. Defaults are the `native` formulation (exactly cacheable, see model.cacheability).

    Sources: "Actions Speak Louder than Words" (arXiv 2402.17152) section 3 and the research code
    published with it, for block and biases.
    """

    num_items: int = Field(ge=1)
    tasks: tuple[ActionTask, ...] = Field(min_length=1)
    d_model: int = Field(default=64, ge=1)
    num_layers: int = Field(default=4, ge=1)
    num_heads: int = Field(default=2, ge=1)
    qk_dim: int = Field(default=32, ge=1, description="query/key width per head")
    v_dim: int = Field(default=32, ge=1, description="value width per head")
    bias_heads: Literal["shared", "per_head"] = "shared"
    max_distance: int = Field(
        default=256,
        ge=1,
        description="entries of the position bias; longer distances share the last",
    )
    num_time_buckets: int = Field(default=128, ge=1)
    time_bucket_width: float = Field(
        default=0.301, gt=0, description="width of a time bucket in natural-log seconds"
    )
    divisor: Literal["count"] | Annotated[float, Field(gt=0)] = Field(
        default="count", description="attention divisor: keys the row sees (i+1), or a constant"
    )
    residual: Literal["input", "normed"] = "normed"
    norm_eps: float = Field(default=1e-6, gt=0)
    temperature: float = Field(default=0.05, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    window: Window = Window(capacity=256, keep=160)
    value: ValueFormula = ValueFormula()

    @property
    def actions(self) -> tuple[str, ...]:
        """Action names in the order of the action logits; index a + 1 in the embedding."""
        return tuple(action for task in self.tasks for action in task.actions)

    @property
    def action_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.actions, start=NO_ACTION + 1)}

    @property
    def num_bias_heads(self) -> int:
        return 1 if self.bias_heads == "shared" else self.num_heads

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.actions)) != len(self.actions):
            raise ValueError(f"tasks: an action appears twice in {self.actions}")
        unknown = set(self.value.actions) - set(self.actions)
        if unknown:
            raise ValueError(f"value.actions: {sorted(unknown)} are not actions of any task")
        return self


RATING_TASK = ActionTask(name="rating", actions=("negative", "neutral", "positive"))
"""MovieLens ratings as actions: 1-2.5 negative, 3-3.5 neutral, 4-5 positive."""


def native(num_items: int, **overrides: object) -> HSTUConfig:
    """The `native` preset for rating-like actions, with fields overridden by name.

    Raises:
        pydantic.ValidationError: an impossible value; the message names the field.
    """
    fields: dict[str, object] = {
        "num_items": num_items,
        "tasks": (RATING_TASK,),
        "value": ValueFormula(retrieval=1.0, actions={"positive": 1.0, "negative": -1.0}),
    }
    return HSTUConfig.model_validate(fields | overrides)
