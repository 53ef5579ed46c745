"""Owns what serving costs on a machine, as measured there, and the JSON file it is kept in."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import InputError


class CostsError(InputError):
    """A file holds no costs that can be used; the message names it and says how to make one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Milliseconds of the engine thread."""

    encode_pass_ms: float  # however many are encoded together
    encode_job_ms: float  # each request's
    encode_row_ms: float  # each event row's
    score_pass_ms: float
    score_candidate_ms: float

    def times(self, factor: float) -> "Engine":
        return Engine(**{name: factor * ms for name, ms in asdict(self).items()})

    def encode_ms(self, num_jobs: int, num_rows: int) -> float:
        return self.encode_pass_ms + num_jobs * self.encode_job_ms + num_rows * self.encode_row_ms

    def score_ms(self, num_candidates: int) -> float:
        """Of one pass."""
        return self.score_pass_ms + num_candidates * self.score_candidate_ms

    def whole_score_ms(self, num_candidates: int, microbatch: int) -> float:
        """Of one request's passes."""
        num_passes = -(-num_candidates // microbatch)
        return num_passes * self.score_pass_ms + num_candidates * self.score_candidate_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """Of a state, and of a request whose state this process holds."""

    state_bytes: int
    memory_over_bytes: float  # what the server takes for a value, over its bytes
    fetch_ms: float  # from the question to tensors: the event loop is busy with most of it
    sent_bytes: float  # to the server, by a request
    received_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """What a load makes of the costs of a light one."""

    per_s: float  # answers
    cost: float  # of the engine and the event loop, and of what is beyond both
    noise: float  # of how far requests differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of one replica under a light load; of histories and candidates of the sizes that were
    measured."""

    checkpoint: str
    num_events: int  # usual in a window
    window_capacity: int
    window_keep: int
    num_candidates: int
    threads: int
    microbatch: int
    batch_rows: int
    engine: Engine
    loop_ms: float  # of the event loop, which does one thing at a time, for a request
    aside_ms: float  # of it, beside the engine: what is stored while candidates are scored
    beyond_ms: float  # of a request alone that keeps neither busy: network, threads waking up
    device_bytes: int  # of a state as tensors
    redis: Redis
    noise: list[tuple[float, float, float]]
    """Of requests of a light load: when they came, in seconds; the engine's time over the usual;
    and milliseconds of the rest, beside waiting for the engine, beyond the usual. They tell how
    uneven the machine is, and for how long: one that is slow for a second makes a queue, a slow
    request does not."""
    peak_per_s: float  # answered to clients that wait
    factors: list[Factors]
    """By the load, from a light one to the most that is answered."""
    waited_for_cores: float  # seconds that the event loop was kept waiting, for each it ran
    machine: dict[str, Any]

    def write(self, path: Path) -> None:
        """Raises OSError."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    def under(self, per_s: float) -> "Costs":
        """As they are when so many come a second: by the loads that were measured, and between
        them in proportion."""
        rates = [each.per_s for each in self.factors]
        cost, noise = (
            float(np.interp(per_s, rates, [getattr(each, name) for each in self.factors]))
            for name in ("cost", "noise")
        )
        return self.times(Factors(per_s=per_s, cost=cost, noise=noise))

    def times(self, factors: Factors) -> "Costs":
        return replace(
            self,
            engine=self.engine.times(factors.cost),
            loop_ms=factors.cost * self.loop_ms,
            aside_ms=factors.cost * self.aside_ms,
            beyond_ms=factors.cost * self.beyond_ms,
            noise=[
                (at_s, 1 + factors.noise * (slowness - 1), factors.noise * more_ms)
                for at_s, slowness, more_ms in self.noise
            ],
        )

    @property
    def path_ms(self) -> float:
        """Of the event loop, before and after the engine: the answer waits for it."""
        return self.loop_ms - self.aside_ms

    @classmethod
    def read(cls, path: Path) -> "Costs":
        """
        Raises:
            CostsError: it is not what `write` wrote.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            parts = {"engine": Engine(**values["engine"]), "redis": Redis(**values["redis"])}
            factors = [Factors(**each) for each in values["factors"]]
            noise = [(float(at_s), float(by), float(more)) for at_s, by, more in values["noise"]]
            if values.keys() != {field.name for field in fields(cls)}:
                raise ValueError("fields of another version")
            return cls(**values | parts | {"noise": noise, "factors": factors})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CostsError(
                f"{path}: {error}; make it with: mfalcon plan --measure {path}"
            ) from error
