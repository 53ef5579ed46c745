"""Owns the tiny networks, the random histories and the comparisons that the model's tests share.

Never sets anything global: random numbers come from generators or from a forked state.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from model.config import HSTUConfig, Window
from model.engine.encoder import Encoded, EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import microbatches
from model.engine.oracle import Oracle
from model.engine.state import UserState
from model.history import Event, History
from model.network.hstu import HSTU
from model.presets import native

TOLERANCE = 1e-5
"""What a served logit may differ from the oracle's by: the exactness contract."""

NUM_ITEMS = 19
START = 1_500_000_000  # Unix seconds
EVERY_ITEM = range(NUM_ITEMS)
SOME_ITEMS = (0, 7, NUM_ITEMS - 1)

_GAPS_S = (0, 0, 1, 2, 5, 30, 200, 3_600, 90_000, 2_000_000, 40_000_000)
"""Ties, and gaps over many time buckets."""

FORMULATIONS: dict[str, dict[str, Any]] = {
    f"{bias_heads}-{divisor}-{residual}": {
        "bias_heads": bias_heads,
        "divisor": divisor,
        "residual": residual,
    }
    for bias_heads, divisor, residual in product(
        ("shared", "per_head"), ("count", 7.0), ("input", "normed")
    )
} | {
    "log-distances": {"bias_heads": "per_head", "max_distance": 20, "position_buckets": 6},
    "item_bias": {"item_bias": True},
    "repeat_bias": {"repeat_bias": True},
    "fused by a gate": {"fusion": "gate"},
    "fused by an MLP": {"fusion": "mlp", "item_scale": "sqrt_d"},
    "concat_ua": {"output": "concat_ua", "in_norm": "plain", "attention_norm": "plain"},
}
"""Every formulation a configuration can express, by name."""


def tiny_config(num_items: int = NUM_ITEMS, **overrides: Any) -> HSTUConfig:
    """K != V, and a position bias shorter than the histories.

    The norms' epsilon is large because a tiny one hides the divisor: a norm undoes any scale. The
    temperature leaves float32 rounding a margin below the tolerance.
    """
    fields: dict[str, Any] = {
        "d_model": 16,
        "num_layers": 3,
        "num_heads": 2,
        "qk_dim": 8,
        "v_dim": 12,
        "max_distance": 10,
        "norm_eps": 0.1,
        "temperature": 0.1,
        "window": Window(capacity=64, keep=40),
    }
    return native(num_items, **(fields | overrides))


def make_network(config: HSTUConfig | None = None, *, seed: int = 0, bias: float = 0.0) -> HSTU:
    """A network in evaluation mode whose every parameter matters; `bias` is added to its tables.

    Freshly initialised ones are so small that a wrong bias or a leaking mask would not show.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = HSTU(config or tiny_config())
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith(("bias.position", "bias.time")):
                    parameter.normal_().add_(bias)
                elif name.endswith("norm.weight"):
                    parameter.uniform_(0.5, 1.5)
                elif name.endswith("norm.bias"):
                    parameter.normal_(std=0.2)
                else:
                    parameter.normal_(std=1.0 if "items" in name or "actions" in name else 0.25)
            network.retrieval.prior.copy_(torch.randn(network.config.num_items).log_softmax(0))
    return network.eval()


def random_events(count: int, *, seed: int = 0, start: int = START) -> list[Event]:
    """Events in order of time, some of them tied, some without an action."""
    generator = torch.Generator().manual_seed(seed)

    def draw(upto: int) -> list[int]:
        return torch.randint(upto, (count,), generator=generator).tolist()

    times, now = [], start
    for gap in draw(len(_GAPS_S)):
        now += _GAPS_S[gap]
        times.append(now)
    return [Event(*row) for row in zip(draw(NUM_ITEMS), draw(4), times, strict=True)]


def random_history(count: int, *, seed: int = 0) -> History:
    return History.of(random_events(count, seed=seed))


def later(history: History, seconds: int = 4_000) -> int:
    """A request time after the last event."""
    return (history.events[-1].timestamp if len(history) else START) + seconds


def encode(
    engine: Engine, history: History, now: int | None = None, state: UserState | None = None
) -> Encoded:
    """One user, from nothing or from `state`."""
    job = EncodeJob(engine.empty_state() if state is None else state, history, now)
    return engine.encode([job])[0]


def served(
    engine: Engine, encoded: Encoded, candidates: Sequence[int], size: int = 1024
) -> tuple[Tensor, Tensor]:
    """Retrieval logits (M,) and action logits (M, actions), in microbatches of `size`."""
    assert encoded.live is not None
    items = torch.tensor(candidates)
    actions = engine.score(list(microbatches(encoded.live, items, size)))
    return engine.retrieve(encoded.live)[items], torch.cat(actions)


def right_answers(
    network: HSTU, history: History, now: int, candidates: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The oracle's retrieval logits (M,) and action logits (M, actions)."""
    oracle = Oracle(network, history, now)
    scores = [oracle.score(candidate) for candidate in candidates]
    return torch.stack([s.retrieval for s in scores]), torch.stack([s.actions for s in scores])


def assert_close(
    actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = TOLERANCE
) -> None:
    """Equal shapes and equal within the contract's absolute bound, tensor by tensor."""
    for got, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance)


def assert_exact(
    engine: Engine,
    encoded: Encoded,
    now: int,
    candidates: Sequence[int] = SOME_ITEMS,
    size: int = 1024,
) -> None:
    """What is served for `encoded` is the oracle's answer for its history."""
    history = encoded.state.history
    assert_close(
        served(engine, encoded, candidates, size),
        right_answers(engine.network, history, now, candidates),
    )
