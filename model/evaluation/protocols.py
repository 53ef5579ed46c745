"""Owns the protocols: every choice that moves a leave-one-out figure, named and printable.

Never evaluates. What each source does was read in its code; its epoch selection and its training
split are not here, since they are the checkpoint's: an evaluation reports them beside.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Protocol(BaseModel):
    """How the last event of each user is predicted from those before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sort: Literal["stable", "shuffled"] = Field(
        description="events of one second: as the source lists them, or in a random order"
    )
    mask: Literal["full", "window", "none"] = Field(
        description="items that are not ranked: all of the history, what the model sees of it, none"
    )
    candidates: Literal["rated", "listed"] = Field(
        description="items that are ranked: those with an event, or all that the source lists"
    )
    query_time: Literal["target", "last_event"] = Field(
        description="the time of the request: the target's, or that of the newest event before it"
    )
    min_events: int = Field(default=2, ge=2, description="users with fewer events are left out")
    num_targets: int = Field(
        default=1, ge=1, description="last events of a user to predict, each from those before it"
    )
    window: int | None = Field(
        default=None,
        ge=1,
        description="newest events that the model sees; left out: as many as its window holds",
    )
    anchored: bool = Field(
        default=False,
        description="let the model see what it sees when served: the events since its window was "
        "last begun anew, which may be fewer than it holds",
    )
    seed: int = Field(default=0, description="of the shuffled order")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.window is not None and self.anchored:
            raise ValueError("window: anchored has the checkpoint's own; choose one of both")
        return self


PROTOCOLS: dict[str, Protocol] = {
    # Research code of arXiv 2402.17152, `data/eval.py` and `data/preprocessor.py`: pandas' default
    # sort, which leaves tied events in no order, stands here as a seeded shuffle.
    "meta": Protocol(sort="shuffled", mask="window", candidates="listed", query_time="target"),
    # HSTU-Tensorflow, `evaluator.py`: on the same sequences.
    "tf": Protocol(sort="shuffled", mask="full", candidates="rated", query_time="target"),
    # RecTools' HSTU tutorial: `filter_viewed`, the target's time as context.
    "rectools": Protocol(sort="stable", mask="full", candidates="rated", query_time="target"),
    # genrec, `hstu_trainer.py`: nothing masked, no request time.
    "genrec": Protocol(sort="stable", mask="none", candidates="rated", query_time="last_event"),
}
