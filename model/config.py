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
    window however it was cut into appends. One that keeps all it can is strict: always exactly the
    newest `capacity` events, for models that were made for that and nothing else.
    """

    capacity: int = Field(ge=2)
    keep: int = Field(ge=1)

    @model_validator(mode="after")
    def _keep_fits(self) -> Self:
        if self.keep > self.capacity:
            raise ValueError(f"window.keep {self.keep} exceeds window.capacity {self.capacity}")
        return self

    @property
    def strict(self) -> bool:
        return self.keep == self.capacity

    @property
    def step(self) -> int:
        """Events from one rebuild to the next."""
        return self.capacity + 1 - self.keep

    def start(self, num_events: int) -> int:
        """Index of the first event in the window of a history of `num_events` events."""
        if num_events <= self.capacity:
            return 0
        return self.step * -(-(num_events - self.capacity) // self.step)


class TimeBucketing(_Frozen):
    """bucket = floor(fn(span / unit_s) / width), clamped to 0 .. num_buckets."""

    fn: Literal["log", "sqrt"] = "log"
    unit_s: int = Field(default=1, ge=1, description="seconds in the unit of time")
    width: float = Field(default=0.301, gt=0)
    num_buckets: int = Field(default=128, ge=1, description="the table has one more entry")


class ValueFormula(_Frozen):
    """The score a list is sorted by: retrieval * logit + sum of actions[a] * P(a)."""

    retrieval: float = 1.0
    actions: dict[str, float] = Field(default_factory=dict)


class HSTUConfig(_Frozen):
    """One HSTU, of any published form; `model.presets` names those forms.

    Defaults are the `native` formulation (exactly cacheable, see model.cacheability). Sources:
    "Actions Speak Louder than Words" (arXiv 2402.17152) section 3, the research code published with
    it, and the implementations that each option names.
    """

    num_items: int = Field(ge=1)
    tasks: tuple[ActionTask, ...] = Field(
        default=(), description="action predictions; none: a retrieval model without candidate rows"
    )
    d_model: int = Field(default=64, ge=1)
    num_layers: int = Field(default=4, ge=1)
    num_heads: int = Field(default=2, ge=1)
    qk_dim: int = Field(default=32, ge=1, description="query/key width per head")
    v_dim: int = Field(default=32, ge=1, description="value width per head")

    item_scale: Literal["none", "sqrt_d"] = "none"
    fusion: Literal["sum", "gate", "mlp"] = Field(
        default="sum",
        description="how item and action become one row; all but sum are served from a table of "
        "items x (actions + 1) rows",
    )
    positions: Literal["none", "start", "end"] = Field(
        default="none", description="learned absolute positions, counted from which end"
    )
    max_positions: int = Field(default=0, ge=0, description="rows of the position table")
    input_times: TimeBucketing | None = Field(
        default=None, description="embed (request time - event time) into each event row"
    )

    bias_heads: Literal["shared", "per_head"] = "shared"
    max_distance: int = Field(
        default=256,
        ge=0,
        description="entries of the position bias, longer distances share the last; 0: none",
    )
    position_buckets: int = Field(
        default=0,
        ge=0,
        description="T5's buckets of distances: half of them one distance each, the rest growing "
        "up to max_distance; 0: every distance has its own",
    )
    time_bias: TimeBucketing | None = TimeBucketing()
    time_query: Literal["next", "self"] = Field(
        default="next", description="the time an event row looks from: the next event's or its own"
    )

    attention: Literal["silu", "softmax"] = "silu"
    qk_scale: Literal["none", "rsqrt"] = "none"
    divisor: Literal["count"] | Annotated[float, Field(gt=0)] = Field(
        default="count", description="attention divisor: keys the row sees (i+1), or a constant"
    )
    in_norm: Literal["none", "plain", "affine"] = "affine"
    keys: Literal["normed", "input"] = Field(
        default="normed", description="rows that keys and values are made of"
    )
    attention_norm: Literal["none", "plain", "affine"] = "affine"
    norm_eps: float = Field(default=1e-6, gt=0)
    projection_bias: bool = False
    gate: Literal["silu", "sigmoid", "none"] = Field(
        default="silu", description="silu: of keys and values, too; the others leave them linear"
    )
    output: Literal["gated", "concat_ua", "unprojected"] = Field(
        default="gated", description="W(u * a), W[u, a, u * a], or u * a"
    )
    residual: Literal["input", "normed"] = Field(
        default="normed", description="what a layer adds to, and its FFN"
    )
    ffn_multiple: int = Field(default=0, ge=0, description="hidden width of the FFN over d_model")
    ffn_activation: Literal["silu", "relu"] = "silu"
    final_norm: bool = False

    similarity: Literal["cosine", "dot"] = "cosine"
    similarity_eps: float = Field(default=1e-6, gt=0)
    item_bias: bool = Field(default=False, description="a learned score per item, history aside")
    repeat_bias: bool = Field(
        default=False,
        description="one learned score for all items of the window: they come again, or hardly do",
    )
    temperature: float = Field(default=0.05, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="of softmax weights")
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
        candidate_rows = {
            "positions": self.positions != "end",
            "input_times": self.input_times is None,
            "time_query": self.time_query == "next",
            "attention": self.attention == "silu",
        }
        for name, fits in candidate_rows.items():
            if self.tasks and not fits:
                raise ValueError(f"{name}: {getattr(self, name)} does not go with action tasks")
        of_softmax = {
            "keys": self.keys == "input",
            "attention_norm": self.attention_norm == "none",
            "gate": self.gate == "none",
            "attention_dropout": self.attention_dropout > 0,
        }
        for name, is_used in of_softmax.items():
            if is_used and self.attention != "softmax":
                raise ValueError(f"{name}: {getattr(self, name)} goes with attention softmax alone")
        if self.position_buckets and not 1 < self.position_buckets < self.max_distance:
            raise ValueError(
                "position_buckets: needs at least 2, and fewer than max_distance, or none"
            )
        if self.output == "unprojected" and self.num_heads * self.v_dim != self.d_model:
            raise ValueError("output: unprojected needs num_heads * v_dim to be d_model")
        if (self.positions == "none") != (self.max_positions == 0):
            raise ValueError("max_positions: set it with positions, and only then")
        num_rows = self.window.capacity + (1 if self.tasks else 0)
        if self.positions != "none" and self.max_positions < num_rows:
            raise ValueError(f"max_positions: a full window needs {num_rows}")
        if len(set(self.actions)) != len(self.actions):
            raise ValueError(f"tasks: an action appears twice in {self.actions}")
        unknown = set(self.value.actions) - set(self.actions)
        if unknown:
            raise ValueError(f"value.actions: {sorted(unknown)} are not actions of any task")
        return self
