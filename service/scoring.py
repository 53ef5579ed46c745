"""Owns a request between its encode and its answer: what is left to do for it, pass by pass.

Never runs a pass; `service.ranker` does.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.engine.encoder import Encoded
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.slate import Beam, Prefix
from model.engine.state import UserState
from service.job import Ticket
from service.ranking import Ranking, RankJob, retrieved
from service.slate import Slate, SlateJob


@dataclass(frozen=True, slots=True)
class Together:
    """The encode pass that a request was in."""

    num_jobs: int
    num_rows: int  # beside the pending ones
    began_s: float  # time.monotonic()
    ended_s: float

    @classmethod
    def of(cls, encoded: Sequence[Encoded], began_s: float) -> "Together":
        num_rows = sum(max(each.num_encoded - 1, 0) for each in encoded)
        return cls(len(encoded), num_rows, began_s, time.monotonic())


class Scoring(ABC):
    """A request whose history is encoded."""

    def __init__(self, ticket: Ticket[Ranking], encoded: Encoded, together: Together) -> None:
        assert isinstance(ticket.job, RankJob)
        self.ticket, self.deadline = ticket, ticket.job.deadline
        self._shortcut = ticket.job.shortcut
        self._on_state: Callable[[UserState | None], None] | None = ticket.job.on_state
        self._encoded, self._together = encoded, together

    def tell_state(self) -> None:
        """Once, if somebody listens."""
        if self._on_state is not None:
            state = self._encoded.state if self._shortcut is None else None
            self.ticket.tell(self._on_state, state)
            self._on_state = None

    @property
    def is_over(self) -> bool:
        """Settled, or nobody waits any more."""
        return self.ticket.is_settled or self.ticket.is_given_up

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """There is nothing left to score, or no time."""

    def finish(self) -> None:
        self.tell_state()
        self.ticket.finish(self._found())

    @abstractmethod
    def _found(self) -> Ranking: ...

    def _way(self) -> dict[str, Any]:
        """What a `Ranking` says of how it came about."""
        together = self._together
        return {
            "state": self._encoded.state,
            "shortcut": None if self._shortcut is None else self._shortcut.name,
            "num_reused": self._encoded.num_reused,
            "num_encoded": self._encoded.num_encoded,
            "num_jobs": together.num_jobs,
            "num_rows": together.num_rows,
            "started_s": together.began_s,
            "encode_ms": (together.ended_s - together.began_s) * 1000,
            "score_ms": (time.monotonic() - together.ended_s) * 1000,
        }


class CandidateScoring(Scoring):
    """Of a list of candidates, microbatch by microbatch."""

    def __init__(
        self,
        engine: Engine,
        ticket: Ticket[Ranking],
        encoded: Encoded,
        retrieval: Tensor,
        together: Together,
    ) -> None:
        """`retrieval`: logits of the whole catalogue."""
        super().__init__(ticket, encoded, together)
        assert isinstance(ticket.job, RankJob)
        assert encoded.live is not None
        self._live = encoded.live
        self._order, self._retrieval = retrieved(retrieval, ticket.job)
        self._num_actions = len(engine.config.actions)
        self._logits: list[Tensor] = []
        self.num_left = self._order.shape[0]

    @property
    def is_done(self) -> bool:
        return not self.num_left or self.deadline.expired

    def microbatch(self, count: int) -> Microbatch:
        """The next candidates."""
        start = self._order.shape[0] - self.num_left
        return Microbatch(self._live, self._order[start : start + count])

    def add(self, logits: Tensor) -> None:
        """Action logits of the next candidates."""
        self._logits.append(logits)
        self.num_left -= logits.shape[0]

    def _found(self) -> Ranking:
        parts = self._logits or [torch.empty(0, self._num_actions)]
        return Ranking(
            order=self._order.cpu(),
            retrieval=self._retrieval.cpu(),
            logits=(parts[0] if len(parts) == 1 else torch.cat(parts)).cpu(),
            **self._way(),
        )


class SlateScoring(Scoring):
    """Of a slate, item by item. The first is cheap, and always found."""

    def __init__(
        self,
        engine: Engine,
        ticket: Ticket[Ranking],
        encoded: Encoded,
        retrieval: Tensor,
        together: Together,
        step_s: float,
    ) -> None:
        """`retrieval`: logits of the whole catalogue; `step_s`: what the next item may take."""
        super().__init__(ticket, encoded, together)
        job = ticket.job
        assert isinstance(job, SlateJob)
        assert encoded.live is not None
        allowed = job.allowed(engine.config.num_items)
        self._num_wanted = min(job.size.length, int(allowed.sum()))
        self._num_actions, self._step_s = len(engine.config.actions), step_s
        start = Prefix(encoded.live, retrieval)
        self.beam = Beam(start, allowed.to(retrieval.device), job.size.beam)

    @property
    def is_done(self) -> bool:
        num_found = len(self.beam.picks)
        is_late = self.deadline.remaining_s <= self._step_s
        return num_found == self._num_wanted or (num_found > 0 and is_late)

    def _found(self) -> Slate:
        picks = self.beam.picks
        rows = [pick.logits for pick in picks]
        return Slate(
            order=torch.tensor([pick.item for pick in picks], dtype=torch.int64),
            retrieval=torch.tensor([pick.retrieval for pick in picks]),
            log_probabilities=torch.tensor([pick.log_probability for pick in picks]),
            logits=torch.stack(rows) if rows else torch.empty(0, self._num_actions),
            is_short=len(picks) < self._num_wanted,
            **self._way(),
        )


def parted(requests: Sequence[Scoring]) -> tuple[list[Scoring], list[Scoring]]:
    """Those to finish, and those to score."""
    done: list[Scoring] = []
    waiting: list[Scoring] = []
    for request in requests:
        if not request.is_over:
            (done if request.is_done else waiting).append(request)
    return done, waiting
