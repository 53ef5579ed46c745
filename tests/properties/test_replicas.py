"""Any interleaving of what happens to users' states over several replicas, two checkpoints and one
Redis gives the oracle's scores, of exactly the events that a plain history would hold.

`MFALCON_TEST_EXAMPLES` asks for more than the few that every run takes, and for other ones each
time.
"""

import asyncio
import os
from itertools import product
from typing import Any

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from cache import Dtype, StateKey
from model.history import Event
from service.codec import StateCodec
from service.handover import Handover, Outcome
from service.row_format import QUANTISED
from service.scheduler import EngineThread
from service.schemas import EventIn
from tests.properties.models import Model, assert_right, between, make_models
from tests.properties.replica import Mode, Replica, open_store
from tests.reference import ReferenceHistory, inherited
from tests.service.builders import single_thread

EXAMPLES = "MFALCON_TEST_EXAMPLES"
NUM_EXAMPLES = int(os.environ.get(EXAMPLES, "40"))
NUM_STEPS = 30

USERS = ("ann", "bob")
START_S = 1_500_000_000
DEVICE_BYTES = (1 << 20, 0, 3000)
"""Of each replica: room for everybody, for nobody, and for about one user."""

users = st.sampled_from(USERS)
replicas = st.integers(0, len(DEVICE_BYTES) - 1)
models = st.integers(0, 1)
dtypes = st.sampled_from([Dtype.FLOAT32, Dtype.FLOAT32, *QUANTISED])
modes: st.SearchStrategy[Mode] = st.sampled_from(("append", "append", "append", "replace"))
seconds = st.sampled_from([START_S + s for s in (0, 1, 1, 2, 3, 60, 61, 4_000, 1_000_000)])
events = st.lists(
    st.builds(
        EventIn,
        item_id=st.sampled_from("abcdef"),
        action=st.sampled_from(["negative", "positive", None]),
        timestamp=seconds,
    ),
    max_size=5,
)
"""Few enough that repeats, corrections, ties and late arrivals are the rule."""


class Replicas(RuleBasedStateMachine):
    """Several replicas, and what each user's history must be under each checkpoint."""

    def __init__(self, url: str, both: tuple[Model, Model], thread: EngineThread) -> None:
        super().__init__()
        self._models = both
        self._runner = asyncio.Runner()
        self._client = redis.Redis.from_url(url)
        self._client.flushdb()
        self._looker = open_store(url)
        started = zip((both[0], both[0], both[1]), DEVICE_BYTES, strict=True)
        self._replicas = [Replica(model, url, thread, size) for model, size in started]
        self._expected = {
            (model.fingerprint, user): ReferenceHistory(model.checkpoint.config.window)
            for model, user in product(both, USERS)
        }
        # Whose states may hold rows that were stored in fewer bits.
        self._rounded = set[tuple[bytes, str]]()

    def teardown(self) -> None:
        for replica in self._replicas:
            self._run(replica.close())
        self._run(self._looker.close())
        self._runner.close()
        self._client.close()

    def _run(self, work: Any) -> Any:
        return self._runner.run(work)

    def _of(self, model: Model, user: str) -> ReferenceHistory:
        return self._expected[model.fingerprint, user]

    def _offer(self, at: Replica, user: str, offered: list[EventIn], mode: Mode) -> None:
        known = [event for event in map(at.model.event, offered) if event]
        history = self._of(at.model, user)
        if mode == "replace":
            history.replace(known)
        else:
            history.offer(known)
        if at.dtype in QUANTISED:
            self._rounded.add((at.model.fingerprint, user))

    def _lose(self, model: Model, user: str) -> None:
        self._of(model, user).replace([])
        self._rounded.discard((model.fingerprint, user))

    # What clients do

    @rule(at=replicas, user=users, offered=events, mode=modes)
    def add(self, at: int, user: str, offered: list[EventIn], mode: Mode) -> None:
        replica = self._replicas[at]
        self._run(replica.add(user, offered, mode))
        self._offer(replica, user, offered, mode)

    @rule(at=replicas, user=users, offered=events, mode=modes, now_s=seconds)
    def recommend(self, at: int, user: str, offered: list[EventIn], mode: Mode, now_s: int) -> None:
        replica = self._replicas[at]
        answer = self._run(replica.recommend(user, offered, mode, now_s))
        self._offer(replica, user, offered, mode)
        expected = self._of(replica.model, user)
        is_rounded = (replica.model.fingerprint, user) in self._rounded
        assert_right(answer, replica.model, expected, now_s, is_rounded=is_rounded)

    @rule(at=replicas, user=users, now_s=seconds)
    def score(self, at: int, user: str, now_s: int) -> None:
        self.recommend(at, user, [], "append", now_s)

    @rule(at=st.permutations(range(len(DEVICE_BYTES))), user=users, mine=events, theirs=events)
    def overtaken(
        self, at: list[int], user: str, mine: list[EventIn], theirs: list[EventIn]
    ) -> None:
        """A replica writes between another's reading and writing: the loser reads again."""
        slow, *others = (self._replicas[place] for place in at)
        fast = min(others, key=lambda other: other.model is not slow.model)
        assert self._run(slow.add_overtaken(user, mine, fast.add(user, theirs, "append")))
        self._offer(fast, user, theirs, "append")
        self._offer(slow, user, mine, "append")

    @rule(at=st.permutations(range(len(DEVICE_BYTES))), user=users, mine=events, theirs=events)
    def overtaken_by_forget(
        self, at: list[int], user: str, mine: list[EventIn], theirs: list[EventIn]
    ) -> None:
        """Nothing of what was read before is written after it, nor over what comes then."""
        slow, other = (self._replicas[place] for place in at[:2])

        async def forget_and_begin_anew() -> None:
            await other.forget(user)
            await other.add(user, theirs, "append")

        self._run(slow.add_overtaken(user, mine, forget_and_begin_anew()))
        for model in self._models:
            self._lose(model, user)
        self._offer(other, user, theirs, "append")

    @rule(at=replicas, user=users)
    def forget(self, at: int, user: str) -> None:
        """Under every model, in every replica."""
        self._run(self._replicas[at].forget(user))
        for model in self._models:
            self._lose(model, user)

    # What happens to the store and to the replicas

    @rule(model=models, user=users)
    def evict(self, model: int, user: str) -> None:
        self._client.delete(self._key(self._models[model], user).name)
        self._lose(self._models[model], user)

    @rule(model=models, user=users)
    def expire(self, model: int, user: str) -> None:
        name = self._key(self._models[model], user).name
        self._client.pexpire(name, 1)
        while self._client.exists(name):
            pass
        self._lose(self._models[model], user)

    @rule(at=replicas, user=users)
    def drop_from_device(self, at: int, user: str) -> None:
        self._replicas[at].drop_from_device(user)

    @rule(at=replicas, model=models, dtype=dtypes)
    def restart(self, at: int, model: int, dtype: Dtype) -> None:
        """With the same checkpoint or the other one, the same setting or another."""
        replica = self._replicas[at]
        self._replicas[at] = self._run(replica.restarted(self._models[model], dtype))

    @rule(user=users, new=models, dtype=dtypes)
    def warm(self, user: str, new: int, dtype: Dtype) -> None:
        model, old = self._models[new], self._models[1 - new]
        handover = Handover(old.checkpoint, model.checkpoint, model.engine, self._looker, dtype)
        outcome = self._run(handover.warm(user))
        if outcome is Outcome.WARMED:
            source, into = self._of(old, user), self._of(model, user)
            assert not into.held
            known = [event for event in map(between(old, model), source.held) if event]
            into.held, into.num_gone = inherited(source.num_gone, known, into.window)
            assert into.held
            if dtype in QUANTISED:
                self._rounded.add((model.fingerprint, user))
        else:
            assert outcome is not Outcome.BUSY

    # What holds at all times

    @invariant()
    def the_store_holds_what_was_offered_and_not_forgotten(self) -> None:
        for model, user in product(self._models, USERS):
            expected = self._of(model, user)
            assert self._held(model, user) == (expected.held, expected.num_gone)

    def _key(self, model: Model, user: str) -> StateKey:
        return StateKey(user, model.fingerprint)

    def _held(self, model: Model, user: str) -> tuple[list[Event], int]:
        """Read without a trace."""
        found = self._run(self._looker.peek(self._key(model, user)))
        if found is None:
            return [], 0
        codec = StateCodec(model.checkpoint.config, model.fingerprint, model.engine.pool)
        stored = codec.decode(found[0])
        assert stored is not None
        return stored.state.history.events, stored.state.history.anchor


def test_any_interleaving_is_exact(redis_url: str) -> None:
    thread, both = EngineThread(max_queue=8), make_models()

    class Here(Replicas):
        def __init__(self) -> None:
            super().__init__(redis_url, both, thread)

    try:
        with single_thread():
            run_state_machine_as_test(
                Here,
                settings=settings(
                    max_examples=NUM_EXAMPLES,
                    stateful_step_count=NUM_STEPS,
                    derandomize=EXAMPLES not in os.environ,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                ),
            )
    finally:
        asyncio.run(thread.close())
