"""Owns running all cases over the sampled users and collecting what they found."""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from cache import MemoryStore, RedisStore, StateStore
from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from model.kernels.tensor_stack import TensorStack
from model.network.hstu import HSTU
from service.exactness import PRODUCT_TOLERANCE, TOLERANCE, relative_tolerance
from service.row_format import QUANTISED
from service.verification import cases
from service.verification.cases import MICROBATCH_SIZES, RelativeAnswer, RightAnswer
from service.verification.restart import after_restart
from service.verification.slates import slates
from service.verification.users import sample_users

_TTL_S = 3600
_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """The largest difference that a case saw, and the one allowed.

    In units of logits, or in shares of the largest logit of its kind among all users.
    """

    case: str
    comparisons: int
    difference: float
    allowed: float = TOLERANCE
    unit: Literal["logits", "largest logit"] = "logits"

    @property
    def passed(self) -> bool:
        return self.difference <= self.allowed


def worst(differences: list[float]) -> float:
    """The largest; NaN if any is, since `max` would pass over it."""
    return math.nan if any(map(math.isnan, differences)) else max(differences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to verify, and where; `store` is the URL of a real Redis or Valkey."""

    folder: Path
    num_users: int
    num_candidates: int
    store: str
    seed: int
    device: str


def verify(
    checkpoint: Checkpoint, plan: Plan, on_case: Callable[[str, int, int], None]
) -> list[Finding]:
    """Every case over every user. `on_case(name, done, total)` before each."""

    def network() -> HSTU:
        """The checkpoint's own, or a copy that an engine may take to another device."""
        return checkpoint.network if plan.device == "cpu" else deepcopy(checkpoint.network)

    engine = Engine(network(), plan.device)
    plain = Engine(network(), plan.device, stack=TensorStack)
    fingerprint = checkpoint.digests().fingerprint
    num_candidates = min(plan.num_candidates, len(checkpoint.items))
    sampled = sample_users(checkpoint, plan.folder, plan.num_users, num_candidates, plan.seed)
    on_case("oracle", 0, 0)
    # In float64: the oracle's own rounding is not the serving path's.
    exact = deepcopy(checkpoint.network).double()
    users = [(user, RightAnswer.of(exact, user)) for user in sampled]

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
        ("batches of several users", cases.in_batches(engine, users)),
        ("prefill k, extend the rest, every k", cases.every_split(engine, users)),
        ("event by event", cases.event_by_event(engine, users)),
        ("slates, beams of 1 and 3", slates(engine, exact, sampled)),
        ("plain tensor operations", cases.all_users_at_once(plain, users)),
        ("appends of random sizes", cases.random_compositions(engine, users, plan.seed)),
        ("store memory", cases.through_store(engine, users, memory, fingerprint)),
        ("store redis", cases.through_store(engine, users, redis, fingerprint)),
        (
            "service over HTTP, killed and restarted",
            after_restart(plan.folder, checkpoint, plan.store, users),
        ),
    ]
    relative = list(zip(sampled, RelativeAnswer.among([right for _, right in users]), strict=True))
    allowed = {f"store redis, {dtype.label}": relative_tolerance(dtype) for dtype in QUANTISED}
    named += [
        (
            f"store redis, {dtype.label}",
            cases.through_store(engine, relative, redis, fingerprint, dtype),
        )
        for dtype in QUANTISED
    ]
    narrow = Engine(network(), plan.device, torch.bfloat16)
    in_bfloat16 = [
        (f"{narrow.kernels} in bfloat16", cases.all_users_at_once(narrow, relative)),
        ("event by event in bfloat16", cases.event_by_event(narrow, relative)),
    ]
    allowed |= dict.fromkeys((name for name, _ in in_bfloat16), PRODUCT_TOLERANCE)
    with engine.capturing(), narrow.capturing():
        return _findings(named + in_bfloat16, allowed, on_case)


def _findings(
    named: list[tuple[str, Iterator[float]]],
    allowed: dict[str, float],
    on_case: Callable[[str, int, int], None],
) -> list[Finding]:
    """Of each case; `allowed` has those whose bound is a share of the largest logit."""
    findings = []
    for done, (name, differences) in enumerate(named):
        on_case(name, done, len(named))
        seen = list(differences)
        finding = Finding(name, len(seen), worst(seen))
        if name in allowed:
            finding = replace(finding, allowed=allowed[name], unit="largest logit")
        findings.append(finding)
    return findings
