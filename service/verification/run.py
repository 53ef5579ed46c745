"""Owns running all cases over the sampled users and collecting what they found."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cache import MemoryStore, RedisStore, StateStore
from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from service.verification import cases
from service.verification.cases import MICROBATCH_SIZES, RightAnswer
from service.verification.restart import after_restart
from service.verification.users import sample_users

TOLERANCE = 1e-5
"""Largest difference to the oracle allowed in float32, on logits."""

_TTL_S = 3600
_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    case: str
    comparisons: int
    max_abs_diff: float


def worst(differences: list[float]) -> float:
    """The largest; NaN if any is, since `max` would pass over it."""
    return math.nan if any(map(math.isnan, differences)) else max(differences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to verify; `store` is the URL of a real Redis or Valkey."""

    folder: Path
    num_users: int
    num_candidates: int
    store: str
    seed: int


def verify(
    checkpoint: Checkpoint, plan: Plan, on_case: Callable[[str, int, int], None]
) -> list[Finding]:
    """Every case over every user. `on_case(name, done, total)` before each."""
    engine = Engine(checkpoint.network)
    fingerprint = checkpoint.digests().fingerprint
    num_candidates = min(plan.num_candidates, len(checkpoint.items))
    sampled = sample_users(checkpoint, plan.folder, plan.num_users, num_candidates, plan.seed)
    on_case("oracle", 0, 0)
    users = [(user, RightAnswer.of(engine, user)) for user in sampled]

    def memory() -> StateStore:
        return MemoryStore(_MEMORY_BYTES, _TTL_S)

    def redis() -> StateStore:
        return RedisStore.from_url(plan.store, ttl_s=_TTL_S, timeout_s=1.0)

    named: list[tuple[str, Iterator[float]]] = [
        (f"microbatch {size or 'all'}", cases.by_microbatch(engine, users, size))
        for size in MICROBATCH_SIZES
    ]
    named += [
        ("all users in one pass", cases.all_users_at_once(engine, users)),
        ("prefill k, extend the rest, every k", cases.every_split(engine, users)),
        ("event by event", cases.event_by_event(engine, users)),
        ("appends of random sizes", cases.random_compositions(engine, users, plan.seed)),
        ("store memory", cases.through_store(engine, users, memory, fingerprint)),
        ("store redis", cases.through_store(engine, users, redis, fingerprint)),
        (
            "service over HTTP, killed and restarted",
            after_restart(plan.folder, checkpoint, plan.store, users),
        ),
    ]
    findings = []
    for done, (name, differences) in enumerate(named):
        on_case(name, done, len(named))
        seen = list(differences)
        findings.append(Finding(name, len(seen), worst(seen)))
    return findings
