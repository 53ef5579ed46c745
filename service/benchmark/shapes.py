"""Owns the shapes that are measured: a model, a history and candidates, all made up and seeded."""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import HSTUConfig
from model.engine.engine import Engine
from model.history import Event, History
from model.network.hstu import HSTU
from model.presets import native

_NUM_ITEMS = 5000
_START_S = 1_500_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    name: str
    num_layers: int
    d_model: int
    num_heads: int
    head_dim: int
    num_events: int
    num_candidates: int

    def config(self) -> HSTUConfig:
        return native(
            _NUM_ITEMS,
            num_layers=self.num_layers,
            d_model=self.d_model,
            num_heads=self.num_heads,
            qk_dim=self.head_dim,
            v_dim=self.head_dim,
            window={"capacity": 2 * self.num_events, "keep": self.num_events},
        )


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            name="mlwhiz",
            num_layers=2,
            d_model=64,
            num_heads=2,
            head_dim=32,
            num_events=200,
            num_candidates=1000,
        ),
    )
}

STATE_SHAPES = (
    SHAPES["mlwhiz"],
    # RecTools' HSTU-large, and the bundled checkpoint.
    Shape(
        name="ml-1m",
        num_layers=8,
        d_model=50,
        num_heads=2,
        head_dim=25,
        num_events=200,
        num_candidates=1000,
    ),
    # As NVIDIA's recsys-examples measure inference on KuaiRand-1K.
    Shape(
        name="kuairand",
        num_layers=3,
        d_model=512,
        num_heads=4,
        head_dim=128,
        num_events=4096,
        num_candidates=100,
    ),
)
"""Models whose states are measured; `num_events` is the history of a usual user."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One request of a shape."""

    engine: Engine
    history: History
    request_time: int  # Unix seconds
    candidates: Tensor  # (M,) int64


def workload(shape: Shape, seed: int) -> Workload:
    """Random weights: speed does not depend on them, and scores must agree for any."""
    torch.manual_seed(seed)
    engine = Engine(HSTU(shape.config()))
    gaps = torch.randint(0, 7_200, (shape.num_events,)).cumsum(0) + _START_S
    items = torch.randperm(_NUM_ITEMS)
    events = [
        Event(item, 1 + index % 3, time)
        for index, (item, time) in enumerate(
            zip(items[: shape.num_events].tolist(), gaps.tolist(), strict=True)
        )
    ]
    candidates = items[-shape.num_candidates :]
    return Workload(engine, History.of(events), int(gaps[-1]) + 60, candidates)
