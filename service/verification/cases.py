"""Owns the cases of verification that run in this process, each a different way to an answer.

Never judges: a case yields the largest difference to the oracle it saw, per comparison.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cache import Dtype, StateStore
from model.engine.encoder import EncodeJob, LiveUser
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch, microbatches
from model.engine.oracle import Oracle
from model.engine.state import UserState
from model.history import EMPTY
from model.network.hstu import HSTU
from service.batch import Pace
from service.codec import StateCodec, StoredState
from service.deadline import Deadline
from service.job import Ticket
from service.metrics import Metrics
from service.ranker import Ranker
from service.ranking import Ranking, RankJob
from service.verification.users import VerifiedUser

MICROBATCH_SIZES = (1, 7, 64, 0)  # 0: all at once
_BATCH_USERS = 6
_PASS_ROWS = 50
_SPLIT_JOBS = 16
_SPLIT_CANDIDATES = 4
_NUM_COMPOSITIONS = 3


@dataclass(frozen=True, slots=True)
class RightAnswer:
    """What the oracle says: retrieval logits (M,), action logits (M, actions)."""

    retrieval: Tensor
    actions: Tensor

    @classmethod
    def of(cls, network: HSTU, user: VerifiedUser) -> "RightAnswer":
        """`network` is on the CPU."""
        oracle = Oracle(network, user.history, user.request_time)
        scores = [oracle.score(candidate) for candidate in user.candidates]
        return cls(
            torch.stack([score.retrieval for score in scores]),
            torch.stack([score.actions for score in scores]),
        )

    def difference(self, retrieval: Tensor, actions: Tensor) -> float:
        """Largest absolute difference on logits; the first rows, if fewer are given."""
        return largest(*self._differences(retrieval, actions))

    def _differences(self, retrieval: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        n = len(actions)
        return retrieval[:n].cpu() - self.retrieval[:n], actions.cpu() - self.actions[:n]


@dataclass(frozen=True, slots=True)
class RelativeAnswer(RightAnswer):
    """Differences as shares of the largest logit of their kind."""

    largest_retrieval: float
    largest_action: float

    @classmethod
    def among(cls, answers: Sequence[RightAnswer]) -> "list[RelativeAnswer]":
        """Largest among all of them: a user whose logits are all small has no smaller error."""
        retrieval = largest(*(answer.retrieval for answer in answers))
        has_actions = answers[0].actions.numel() > 0
        action = largest(*(answer.actions for answer in answers)) if has_actions else 1.0
        return [cls(answer.retrieval, answer.actions, retrieval, action) for answer in answers]

    def difference(self, retrieval: Tensor, actions: Tensor) -> float:
        of_retrieval, of_actions = self._differences(retrieval, actions)
        return largest(of_retrieval / self.largest_retrieval, of_actions / self.largest_action)


def largest(*differences: Tensor) -> float:
    """The largest absolute value; NaN if any is."""
    return float(torch.cat([difference.flatten() for difference in differences]).abs().max())


def by_microbatch(
    engine: Engine, users: Sequence[tuple[VerifiedUser, RightAnswer]], size: int
) -> Iterator[float]:
    """Prefill in one piece, candidates in microbatches of `size`."""
    for user, right in users:
        live = _live(engine, engine.empty_state(), user)
        candidates = user.candidate_tensor()
        parts = [
            engine.score([batch])[0]
            for batch in microbatches(live, candidates, size or len(candidates))
        ]
        yield right.difference(engine.retrieve(live)[candidates], torch.cat(parts))


def all_users_at_once(
    engine: Engine, users: Sequence[tuple[VerifiedUser, RightAnswer]]
) -> Iterator[float]:
    """Everybody's rows in one jagged pass, everybody's candidates in another."""
    jobs = [EncodeJob(engine.empty_state(), u.history, u.request_time) for u, _ in users]
    lives = [encoded.live for encoded in engine.encode(jobs)]
    batches = [
        Microbatch(live, user.candidate_tensor())
        for live, (user, _) in zip(lives, users, strict=True)
        if live is not None
    ]
    for batch, logits, (_, right) in zip(batches, engine.score(batches), users, strict=True):
        yield right.difference(engine.retrieve(batch.user)[batch.candidates], logits)


def in_batches(
    engine: Engine, users: Sequence[tuple[VerifiedUser, RightAnswer]]
) -> Iterator[float]:
    """Requests that waited together, as the engine thread runs them: new users beside users with
    half of their history encoded, and passes that end amid a list."""
    ranker = Ranker(engine, Pace(), Metrics(), pass_rows=_PASS_ROWS)

    async def ranked(batch: Sequence[VerifiedUser]) -> list[Ranking]:
        tickets = [
            Ticket(rank_job(engine, user, has_state=n % 2 > 0)) for n, user in enumerate(batch)
        ]
        ranker.run(tickets)
        return [await ticket.future for ticket in tickets]

    for first in range(0, len(users), _BATCH_USERS):
        batch = users[first : first + _BATCH_USERS]
        rankings = asyncio.run(ranked([user for user, _ in batch]))
        for ranking, (user, right) in zip(rankings, batch, strict=True):
            places = torch.empty(len(engine.network.items.weight), dtype=torch.int64)
            places[ranking.order] = torch.arange(len(ranking.order))
            asked = places[user.candidate_tensor()]
            yield right.difference(ranking.retrieval[asked], ranking.logits[asked])


def every_split(
    engine: Engine, users: Sequence[tuple[VerifiedUser, RightAnswer]]
) -> Iterator[float]:
    """Prefill the first k events, extend by the rest, for every k."""
    for user, right in users:
        n = len(user.events)
        for first in range(0, n + 1, _SPLIT_JOBS):
            cuts = range(first, min(first + _SPLIT_JOBS, n + 1))
            yield from _by_appends(engine, user, right, [[cut, n - cut] for cut in cuts])


def event_by_event(
    engine: Engine, users: Sequence[tuple[VerifiedUser, RightAnswer]]
) -> Iterator[float]:
    """As a live user's events arrive: one append each."""
    for user, right in users:
        yield from _by_appends(engine, user, right, [[1] * len(user.events)])


def random_compositions(
    engine: Engine, users: Sequence[tuple[VerifiedUser, RightAnswer]], seed: int
) -> Iterator[float]:
    """Appends of random sizes."""
    rng = random.Random(seed)
    for user, right in users:
        pieces = []
        for _ in range(_NUM_COMPOSITIONS):
            sizes, left = [], len(user.events)
            while left:
                sizes.append(min(left, rng.randint(1, 40)))
                left -= sizes[-1]
            pieces.append(sizes)
        yield from _by_appends(engine, user, right, pieces)


def through_store(
    engine: Engine,
    users: Sequence[tuple[VerifiedUser, RightAnswer]],
    open_store: Callable[[], StateStore],
    fingerprint: bytes,
    dtype: Dtype = Dtype.FLOAT32,
) -> Iterator[float]:
    """Half the history encoded and stored; read back by another connection, extended by one event
    and by the rest, each time stored and read back; then scored."""
    codec = StateCodec(engine.config, fingerprint, engine.pool, dtype)

    async def stored_twice(user: VerifiedUser) -> UserState:
        name = f"{user.user_id}-{dtype.label}"  # nobody has stored anything for it
        key, writer, reader = codec.key(name), open_store(), open_store()
        other = writer if writer.tier == "memory" else reader
        held, half = StoredState(engine.empty_state()), len(user.events) // 2
        try:
            lineage = (await writer.load(key)).lineage
            for stop in (half, half, half + 1, len(user.events)):
                history, _ = EMPTY.merge(user.events[:stop], engine.config.window)
                (encoded,) = engine.encode([EncodeJob(held.state, history)])
                append = codec.append(name, held, encoded.state)
                if append is None or not await writer.append(key, append):
                    entry = codec.encode(name, encoded.state, held.version + 1, lineage)
                    assert await writer.put(key, entry)
                entry_read = await other.get(key)
                found = None if entry_read is None else codec.decode(entry_read)
                assert found is not None, "the state stored a moment ago can not be read"
                held = found
        finally:
            await writer.close()
            await reader.close()
        return held.state

    for user, right in users:
        live = _live(engine, asyncio.run(stored_twice(user)), user)
        candidates = user.candidate_tensor()
        (logits,) = engine.score([Microbatch(live, candidates)])
        yield right.difference(engine.retrieve(live)[candidates], logits)


def _live(engine: Engine, state: UserState, user: VerifiedUser) -> LiveUser:
    (encoded,) = engine.encode([EncodeJob(state, user.history, user.request_time)])
    assert encoded.live is not None
    return encoded.live


def rank_job(engine: Engine, user: VerifiedUser, *, has_state: bool) -> RankJob:
    """A request for the user's candidates."""
    state = engine.empty_state()
    if has_state:
        half, _ = EMPTY.merge(user.events[: len(user.events) // 2], engine.config.window)
        state = engine.encode([EncodeJob(state, half)])[0].state
    return RankJob(
        state=state,
        history=user.history,
        request_time=user.request_time,
        candidates=user.candidate_tensor(),
        num_retrieved=0,
        exclude_seen=False,
        deadline=Deadline(math.inf),
        submitted_s=0.0,
    )


def _by_appends(
    engine: Engine, user: VerifiedUser, right: RightAnswer, pieces: list[list[int]]
) -> Iterator[float]:
    """Each composition of the history as its own job, all of them side by side in each pass."""
    states = [engine.empty_state() for _ in pieces]
    histories = [EMPTY for _ in pieces]
    starts = [0 for _ in pieces]
    for step in range(max(map(len, pieces))):
        jobs, active = [], []
        for index, sizes in enumerate(pieces):
            if step < len(sizes):
                new = user.events[starts[index] : starts[index] + sizes[step]]
                starts[index] += sizes[step]
                histories[index], _ = histories[index].merge(new, engine.config.window)
                jobs.append(EncodeJob(states[index], histories[index]))
                active.append(index)
        for index, encoded in zip(active, engine.encode(jobs), strict=True):
            states[index] = encoded.state
    candidates = user.candidate_tensor()[:_SPLIT_CANDIDATES]
    now = [EncodeJob(s, h, user.request_time) for s, h in zip(states, histories, strict=True)]
    lives = [encoded.live for encoded in engine.encode(now)]
    batches = [Microbatch(live, candidates) for live in lives if live is not None]
    for batch, logits in zip(batches, engine.score(batches), strict=True):
        yield right.difference(engine.retrieve(batch.user)[candidates], logits)
