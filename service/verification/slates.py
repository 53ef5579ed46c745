"""Owns the case of slates: as the engine thread finds them, against a search by full forwards.

Never judges.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.config import NO_ACTION
from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.history import EMPTY, Event
from model.network.hstu import HSTU
from service.batch import Pace
from service.job import Ticket
from service.metrics import Metrics
from service.ranker import Ranker
from service.slate import Slate, SlateJob, SlateSize
from service.verification.cases import largest, rank_job
from service.verification.users import VerifiedUser

_BEAMS = (1, 3)
_LENGTH = 3
_NUM_USERS = 12
_NUM_CANDIDATES = 6
_PASS_ROWS = 50


@dataclass(frozen=True, slots=True)
class PlainSlate:
    """A sequence and what the oracle says of each item, as of all events before it."""

    events: tuple[Event, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    retrieval: tuple[float, ...] = ()  # logits
    actions: tuple[Tensor, ...] = ()  # (actions,) logits each

    @property
    def items(self) -> list[int]:
        return [event.item for event in self.events]

    @property
    def log_probability(self) -> float:
        return sum(self.log_probabilities)

    def longer(self, network: HSTU, user: VerifiedUser, items: Sequence[int]) -> "list[PlainSlate]":
        """By each of the items that it lacks."""
        history, _ = EMPTY.merge([*user.events, *self.events], network.config.window)
        oracle = Oracle(network, history, user.request_time)
        left = [item for item in items if item not in self.items]
        scores = [oracle.score(item) for item in left]
        steps = torch.stack([score.retrieval for score in scores]).log_softmax(0).tolist()
        found = []
        for item, score, step in zip(left, scores, steps, strict=True):
            action = NO_ACTION
            if len(score.actions):
                action += int(network.action_probabilities(score.actions).argmax()) + 1
            found.append(
                PlainSlate(
                    (*self.events, Event(item, action, user.request_time)),
                    (*self.log_probabilities, step),
                    (*self.retrieval, float(score.retrieval)),
                    (*self.actions, score.actions),
                )
            )
        return found

    def difference(self, slate: Slate) -> float:
        """Of the logits and log probabilities; of the sequences' log probabilities alone, if they
        are of different items."""
        if slate.order.tolist() != self.items:
            return abs(float(slate.log_probabilities.sum()) - self.log_probability)
        return largest(
            slate.log_probabilities - torch.tensor(self.log_probabilities),
            slate.retrieval - torch.tensor(self.retrieval),
            slate.logits - torch.stack(self.actions),
        )


def plain_slate(
    network: HSTU, user: VerifiedUser, items: Sequence[int], size: SlateSize
) -> PlainSlate:
    """The best sequence of `items` that a beam finds, every score by a full forward.

    `network` is on the CPU.
    """
    beam = [PlainSlate()]
    for _ in range(min(size.length, len(items))):
        ways = [longer for each in beam for longer in each.longer(network, user, items)]
        beam = sorted(ways, key=lambda way: -way.log_probability)[: size.beam]
    return beam[0]


def slates(engine: Engine, network: HSTU, users: Sequence[VerifiedUser]) -> Iterator[float]:
    """Of several users at a time, half of whom have half of their history encoded."""
    few = [replace(user, candidates=user.candidates[:_NUM_CANDIDATES]) for user in users]
    for beam in _BEAMS:
        size = SlateSize(_LENGTH, beam)
        jobs = [
            SlateJob.of(rank_job(engine, user, has_state=n % 2 > 0), size, engine.config)
            for n, user in enumerate(few[:_NUM_USERS])
        ]
        for user, slate in zip(few, asyncio.run(_run(engine, jobs)), strict=False):
            yield plain_slate(network, user, user.candidates, size).difference(slate)


async def _run(engine: Engine, jobs: Sequence[SlateJob]) -> list[Slate]:
    tickets = [Ticket(job) for job in jobs]
    Ranker(engine, Pace(), Metrics(), pass_rows=_PASS_ROWS).run(tickets)
    found = [await ticket.future for ticket in tickets]
    return [each for each in found if isinstance(each, Slate)]
