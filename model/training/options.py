"""Owns what a training run can be told. Never trains."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainingOptions(BaseModel):
    """What training does; all of it goes into the checkpoint's `training` record."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    epochs: int = Field(default=100, ge=1, description="the most there are")
    patience: int = Field(
        default=10, ge=1, description="stop after this many without a better validation"
    )
    validate_every: int = Field(default=1, ge=1, description="epochs between validations")
    seed: int = Field(default=0, description="of weights, dropout, order and negatives")

    num_held_out: int = Field(
        default=2,
        ge=1,
        description="events of each user that are kept from training, from the last; with one, no "
        "event is left to validate on, and no epoch is better than the last; with more than two, "
        "actions can be judged by several events of each user",
    )
    hold_out: Literal["events", "ties"] = Field(
        default="events",
        description="ties: and all that happened at the same second as one of those or later, so "
        "that no order of tied events leaks a target",
    )
    exclude_seen: bool = Field(
        default=True,
        description="leave what a user has had out of the lists that epochs are judged by, as the "
        "service and most protocols do",
    )
    windows: Literal["last", "all"] = Field(
        default="all", description="train on each user's last window, or on all of the history"
    )
    shuffle_ties: float = Field(
        default=0.0, ge=0, le=1, description="share of windows whose tied events are shuffled"
    )
    drop_events: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the training events that an epoch leaves out, others each time",
    )

    batch_users: int = Field(default=128, ge=1, description="windows per step")
    accumulate: int = Field(
        default=1, ge=1, description="parts of a step, run one after another or by many processes"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="of AdamW")
    decay: Literal["none", "linear"] = Field(
        default="none", description="of the learning rate; linear: to nothing, over `epochs`"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    averaging: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="what a running average of the weights keeps at each step; it is validated and "
        "written in their place. 0: no average",
    )
    item_features: str | None = Field(
        default=None,
        description="a column of what is known about the items, such as genres, with values apart "
        'by "|": each gets a row that is added to those of its items',
    )
    item_dropout: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the items that have the rows of their `item_features` alone, others "
        "each time the table is read: where few events are of one item, its own row is learnt by "
        "heart",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the matrix products; weights and sums stay float32"
    )

    loss: Literal["full", "sampled"] = Field(
        default="full", description="softmax over the catalogue, or over a sample of it"
    )
    negatives: Literal["all", "unseen"] = Field(
        default="all",
        description="what a target competes with; unseen: not with items of the history before "
        "it, which are left out of most lists (`exclude_seen`)",
    )
    num_negatives: int = Field(default=128, ge=1, description="per event, for the sampled loss")
    action_weight: float = Field(default=0.5, ge=0, description="weight of the action loss")
    action_every: int = Field(
        default=1, ge=1, description="steps between two that have candidate rows and action loss"
    )

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.item_dropout and self.item_features is None:
            raise ValueError("item_dropout: needs item_features, which are what is left")
        return self

    @property
    def identity(self) -> dict[str, object]:
        """What a run can not change on its way."""
        free = {"epochs", "patience"} if self.decay == "none" else {"patience"}
        return self.model_dump(mode="json", exclude=free)
