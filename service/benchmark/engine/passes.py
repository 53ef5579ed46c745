"""Owns what the engine is asked to do in a measurement: one call per pass, over some users.

Never measures. Everything goes through the engine's public methods, as the service's calls do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.engine.encoder import EncodeJob, LiveUser
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.operations import Operations
from service.benchmark.engine.users import MANY_NEW, User


@dataclass(frozen=True, slots=True)
class Pass:
    """Something to call, and the operations that an exact answer to it needs."""

    run: Callable[[], object]
    num_operations: int


class Passes:
    """The passes over one engine."""

    def __init__(self, engine: Engine, microbatch: int) -> None:
        """`microbatch` is the most candidates of a user in one pass."""
        self._engine, self._microbatch = engine, microbatch
        self._operations = Operations(engine.config)

    def of(self, users: Sequence[User]) -> dict[str, Pass]:
        """What is measured at every batch size."""
        nothing = self._engine.empty_state()
        one_new = [user.job(user.without_newest[1]) for user in users]
        many_new = [user.job(user.without_newest[MANY_NEW]) for user in users]
        return {
            "prefill": self.encode([user.job(nothing) for user in users]),
            "extend by 1": self.encode(one_new),
            f"extend by {MANY_NEW}": self.encode(many_new),
            "score": self.score([u.live for u in users], [u.candidates for u in users]),
            "request": self.request(one_new, len(users[0].candidates)),
        }

    def encode(self, jobs: Sequence[EncodeJob]) -> Pass:
        return Pass(lambda: self._engine.encode(jobs), sum(map(self._encoding, jobs)))

    def score(self, lives: Sequence[LiveUser], candidates: Sequence[Tensor]) -> Pass:
        """Each user's own (M,) candidates."""
        operations = sum(
            self._operations.score(live.num_events, len(own))
            for live, own in zip(lives, candidates, strict=True)
        )
        return Pass(lambda: self._logits(lives, candidates), operations)

    def request(self, jobs: Sequence[EncodeJob], num_candidates: int) -> Pass:
        """Encode what is new, rank the catalogue, score the best of it."""

        def run() -> list[Tensor]:
            lives = [of_live(encoded.live) for encoded in self._engine.encode(jobs)]
            logits = self._engine.retrieve_all(lives)
            best = [each.topk(num_candidates).indices for each in logits]
            return self._logits(lives, best)

        operations = sum(
            self._encoding(job)
            + self._operations.retrieve()
            + self._operations.score(len(job.history), num_candidates)
            for job in jobs
        )
        return Pass(run, operations)

    def logits(self, users: Sequence[User]) -> list[Tensor]:
        """Action logits (M, actions) of each user, from the states that are there."""
        return self._logits([u.live for u in users], [u.candidates for u in users])

    def prefilled(self, user: User) -> Tensor:
        """Action logits (M, actions) of a user of whom no state is held."""
        (encoded,) = self._engine.encode([user.job(self._engine.empty_state())])
        return self._logits([of_live(encoded.live)], [user.candidates])[0]

    def _logits(self, lives: Sequence[LiveUser], candidates: Sequence[Tensor]) -> list[Tensor]:
        """All users have M candidates."""
        parts = [
            self._engine.score([Microbatch(*pair) for pair in zip(lives, chunks, strict=True)])
            for chunks in zip(*(each.split(self._microbatch) for each in candidates), strict=True)
        ]
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    def _encoding(self, job: EncodeJob) -> int:
        first = job.state.reusable_rows(job.history)
        return self._operations.encode(first, len(job.history))


def of_live(found: LiveUser | None) -> LiveUser:
    """What candidates see; it is there, as the job had a request time."""
    assert found is not None
    return found
