"""Owns what is asked of the engine for a slate, the best sequence of next items, and what it
answers.

Never searches; `model.engine.slate` does. Nothing of what is imagined on the way is kept.
"""

from dataclasses import dataclass, fields
from typing import Final, Self

import torch
from torch import Tensor

from model.config import HSTUConfig
from model.engine.engine import Engine
from model.engine.state import num_imagined_rows
from service.batch import Work
from service.ranking import Ranked, Ranking, RankJob

SHORT_SLATE: Final = "short_slate"
"""The deadline came before the sequence was whole: the best of the length there was time for."""


@dataclass(frozen=True, slots=True)
class SlateSize:
    """What a slate costs beside its ranking."""

    length: int  # items
    beam: int  # sequences that are kept from step to step

    @property
    def step(self) -> Work:
        return Work(self.beam, self.beam, num_jobs=self.beam)

    def work(self, num_events: int, imagined_rows: int | None = None) -> Work:
        """`num_events` to encode before it; `imagined_rows` for the events of a branch, one each if
        nothing else is known."""
        steps = self.length - 1  # after the last item nothing is encoded
        rows = self.beam * (steps if imagined_rows is None else imagined_rows)
        return Work(num_events + rows, self.beam * self.length, num_jobs=1 + self.beam * steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlateJob(RankJob):
    """The best sequence of `size.length` candidates, each as if those before it had happened at
    the request's time, which is no earlier than the newest event."""

    size: SlateSize
    imagined_rows: int  # that a branch encodes from its first to its last item

    @classmethod
    def of(cls, job: RankJob, size: SlateSize, config: HSTUConfig) -> Self:
        """For what a ranking would be made of."""
        history = job.history
        given = {field.name: getattr(job, field.name) for field in fields(job)}
        newest_s = int(history.timestamps[-1]) if len(history) else 0
        given["request_time"] = max(job.request_time, newest_s)
        rows = num_imagined_rows(config, history.num_known, size.length - 1)
        return cls(**given, size=size, imagined_rows=rows)

    def work(self) -> Work:
        num_events = RankJob.work(self).num_events  # super() does not know a class with slots
        return self.size.work(num_events, self.imagined_rows)

    def allowed(self, num_items: int) -> Tensor:
        """(items,) bool, on the CPU: what may be in the slate."""
        allowed = torch.full((num_items,), self.candidates is None)
        if self.candidates is not None:
            allowed[self.candidates] = True
        if self.exclude_seen:
            allowed[self.history.items] = False
        return allowed

    @property
    def _num_candidates(self) -> int:
        return self.size.beam


@dataclass(frozen=True, slots=True, kw_only=True)
class Slate(Ranking):
    """The items in the order of the sequence, all of them scored."""

    log_probabilities: Tensor  # (M,) each after the items before it
    is_short: bool  # for want of time

    def best(self, engine: Engine, count: int) -> list[Ranked]:
        columns = (
            self.order,
            self.retrieval,
            self.log_probabilities,
            engine.action_probabilities(self.logits),
        )
        rows = zip(*(column[:count].tolist() for column in columns), strict=True)
        return [Ranked(*row) for row in rows]
