"""Owns measuring one shape: the engine's passes, the matrix rate, the baselines and the curves.

All of them take turns in every round, so the ratios between them are of one run.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.engine.engine import Engine
from model.kernels.tensor_stack import TensorStack
from model.network.hstu import HSTU
from service.benchmark.engine import memory
from service.benchmark.engine.baselines import Baseline, Baselines
from service.benchmark.engine.curves import FACTORS, Curve, Growth
from service.benchmark.engine.full_forward import FullForward
from service.benchmark.engine.matrix_rate import MatrixRate, matrix_contenders, matrix_rate
from service.benchmark.engine.passes import Pass, Passes
from service.benchmark.engine.stream import Stream, measure_stream
from service.benchmark.engine.users import User, make_users, state_of
from service.benchmark.shapes import Shape
from service.benchmark.timing import OnTurn, medians_ms, time_in_turns

BATCHES = (1, 8, 32)
TOGETHER = 16
"""Users whose requests are answered together, against one by one."""

MAX_OPERATIONS = {"cpu": 1.5e11, "cuda": 5e13}
"""Of one call, about a second on two cores: a larger batch is left out, and of the full forwards as
many are timed. So a shape and a device say what is measured, and a busy machine does not."""

MAX_STATE_BYTES = {"cpu": 1 << 32, "cuda": 1 << 36}
"""Of all users: there are no more of them."""

_UNCACHED, _ONE_BY_ONE = "request, nothing cached", "requests one by one"


@dataclass(frozen=True, slots=True)
class Timing:
    """One pass at one batch size."""

    name: str
    num_users: int
    median_ms: float
    floor_ms: float  # of its operations as plain matrix products
    over_floor: float


@dataclass(frozen=True, slots=True)
class Memory:
    state_bytes: int  # of one user's state at the whole history
    peak_rss_bytes: int
    peak_device_bytes: int | None  # None on a CPU


@dataclass(frozen=True, slots=True)
class EngineMeasurement:
    shape: Shape
    microbatch: int
    rounds: int
    device: str
    dtype: str
    kernels: str
    matrix_rate: MatrixRate
    timings: list[Timing]
    baselines: dict[str, Baseline]
    ratios: dict[str, float]
    stream: Stream
    curves: dict[str, Curve]
    memory: Memory
    max_abs_diff: float  # between the action logits of all contenders


def measure(
    shape: Shape,
    *,
    device: str,
    dtype: torch.dtype,
    microbatch: int,
    batch_rows: int,
    rounds: int,
    seed: int,
    on_turn: OnTurn,
) -> EngineMeasurement:
    """`dtype` is the engine's; the full forwards are measured beside an engine in float32.
    `batch_rows` bounds what runs together in the stream.

    Random weights: speed does not depend on them, and scores must agree for any.
    """
    torch.manual_seed(seed)
    memory.forget_peaks()
    config = shape.config(capacity=int(shape.num_events * FACTORS[-1]))
    engine = Engine(HSTU(config), device, dtype)
    return _Measuring(engine, shape, microbatch, batch_rows).run(rounds, on_turn)


class _Measuring:
    """The contenders of one shape."""

    def __init__(self, engine: Engine, shape: Shape, microbatch: int, batch_rows: int) -> None:
        self._engine, self._shape, self._microbatch = engine, shape, microbatch
        self._batch_rows = batch_rows
        self._passes = Passes(engine, microbatch)
        self._finish = torch.cuda.synchronize if engine.device.type == "cuda" else lambda: None
        self._max_operations = MAX_OPERATIONS[engine.device.type]
        (self._user,) = make_users(engine, shape, 1)
        self._measured = {(name, 1): each for name, each in self._passes.of([self._user]).items()}
        self._measured |= self._cached_and_not()
        self._plain = self._plain_passes()
        self._users = self._add_batches()
        self._growth = Growth(engine, shape, self._passes)
        full = FullForward(engine.network, self._user.history, self._user.request_time)
        in_float32 = engine.pool.dtype == torch.float32
        self._baselines = Baselines(
            full,
            self._user.candidates,
            max_operations=self._max_operations if in_float32 else 0,
        )

    def run(self, rounds: int, on_turn: OnTurn) -> EngineMeasurement:
        device, dtype = self._engine.device, self._engine.pool.dtype
        contenders: dict[str, Callable[[], object]] = {
            label(*key): each.run for key, each in self._measured.items()
        }
        contenders |= {_plain(name): each.run for name, each in self._plain.items()}
        contenders["prefill and score"] = lambda: self._passes.prefilled(self._user)
        contenders |= matrix_contenders(device, dtype)
        contenders |= self._baselines.contenders | self._growth.contenders
        with self._engine.capturing():  # in the round that warms up, which has every call
            times = time_in_turns(contenders, rounds=rounds, on_turn=on_turn, finish=self._finish)
        median_ms = medians_ms(times)
        rate = matrix_rate(median_ms, device)
        baselines = self._baselines.found(median_ms)
        return EngineMeasurement(
            shape=self._shape,
            microbatch=self._microbatch,
            rounds=rounds,
            device=device.type,
            dtype=str(dtype).removeprefix("torch."),
            kernels=self._engine.kernels,
            matrix_rate=rate,
            timings=[
                _timing(*key, median_ms[label(*key)], rate.floor_ms(each.num_operations))
                for key, each in self._measured.items()
            ],
            baselines=baselines,
            ratios=self._ratios(median_ms, rate, baselines),
            stream=measure_stream(
                self._engine,
                self._users,
                microbatch=self._microbatch,
                batch_rows=self._batch_rows,
            ),
            curves=self._growth.curves(median_ms),
            memory=Memory(
                state_bytes=state_of(self._engine, self._user.history).num_bytes,
                peak_rss_bytes=memory.peak_rss_bytes(),
                peak_device_bytes=memory.peak_device_bytes(device),
            ),
            max_abs_diff=self._largest_difference(),
        )

    def _plain_passes(self) -> dict[str, Pass]:
        """The same in plain tensor operations, where something else runs the layers."""
        engine = self._engine
        if engine.kernels == TensorStack.name:
            return {}
        plain = Engine(engine.network, engine.device.type, engine.pool.dtype, TensorStack)
        return Passes(plain, self._microbatch).of(make_users(plain, self._shape, 1))

    def _cached_and_not(self) -> dict[tuple[str, int], Pass]:
        """A whole request with the shape's cached events in the state, and with none of them."""
        user, count = self._user, self._shape.num_candidates
        nothing = self._engine.empty_state()
        found = {(_UNCACHED, 1): self._passes.request([user.job(nothing)], count)}
        if self._shape.num_cached is not None:
            held = state_of(self._engine, user.history.cut(0, self._shape.num_cached))
            found[self._cached, 1] = self._passes.request([user.job(held)], count)
        return found

    @property
    def _cached(self) -> str:
        """The request with a state; where the shape says nothing, of all events but one."""
        num_cached = self._shape.num_cached
        return "request" if num_cached is None else f"request, {num_cached} cached"

    def _add_batches(self) -> list[User]:
        """Larger batches of every pass, as far as they go; the users in them."""
        state_bytes = state_of(self._engine, self._user.history).num_bytes
        room = MAX_STATE_BYTES[self._engine.device.type] // state_bytes
        sizes = [size for size in (*BATCHES[1:], TOGETHER) if size <= room]
        others = make_users(self._engine, self._shape, max(sizes, default=1) - 1)
        users = [self._user, *others]
        for size in sizes:
            passes = self._passes.of(users[:size])
            if size == TOGETHER:
                passes = self._together(users[:size], passes["request"])
            for name, each in passes.items():
                if each.num_operations <= self._max_operations:
                    self._measured[name, size] = each
        return users

    def _together(self, users: list[User], together: Pass) -> dict[str, Pass]:
        singles = [self._passes.of([user])["request"] for user in users]
        one_by_one = Pass(lambda: [each.run() for each in singles], together.num_operations)
        return {"request": together, _ONE_BY_ONE: one_by_one}

    def _ratios(
        self, median_ms: dict[str, float], rate: MatrixRate, baselines: dict[str, Baseline]
    ) -> dict[str, float]:
        """By name, those whose parts were measured."""

        def ms(name: str, num_users: int = 1) -> float:
            return median_ms[label(name, num_users)]

        score, whole = ms("score"), median_ms["prefill and score"]
        ratios = {
            "score_over_gemm_floor": score / rate.floor_ms(self._operations("score")),
            "extend_over_prefill": ms("extend by 1") / ms("prefill"),
            "cached_request_speedup": ms(_UNCACHED) / ms(self._cached),
            "operation_ratio": self._operations(_UNCACHED) / self._operations(self._cached),
        }
        for size in BATCHES:
            if each := self._measured.get(("score", size)):
                share = rate.floor_ms(each.num_operations) / ms("score", size)
                ratios[f"score_matrix_share_{size}"] = share
        if ("request", TOGETHER) in self._measured:
            ratios["batched_over_single"] = ms(_ONE_BY_ONE, TOGETHER) / ms("request", TOGETHER)
        for name in self._plain:
            ratios[f"plain_over_{name.replace(' ', '_')}"] = median_ms[_plain(name)] / ms(name)
        for name, baseline in baselines.items():
            ratios[f"{name}_over_cached"] = baseline.median_ms / score
            ratios[f"{name}_over_prefill_and_cached"] = baseline.median_ms / whole
        return ratios

    def _operations(self, name: str) -> int:
        return self._measured[(name, 1)].num_operations

    def _largest_difference(self) -> float:
        """Between what the contenders say of the first user's candidates."""
        user = self._user
        (right,) = self._passes.logits([user])
        said: list[Tensor] = [self._passes.prefilled(user), self._passes.logits(self._users)[0]]
        said += [run() for run in self._baselines.contenders.values()]
        return max(float((each - right[: len(each)]).abs().max()) for each in said)


def _plain(name: str) -> str:
    return f"{name} in plain tensor operations"


def label(name: str, num_users: int) -> str:
    return name if num_users == 1 else f"{name}, {num_users} users"


def _timing(name: str, num_users: int, median_ms: float, floor_ms: float) -> Timing:
    return Timing(name, num_users, median_ms, floor_ms, median_ms / floor_ms)
