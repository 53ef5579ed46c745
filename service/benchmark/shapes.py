"""Owns the shapes that are measured: the sizes of a model, a history and a request."""

from dataclasses import dataclass
from typing import Self

from model.config import HSTUConfig
from model.presets import native

NUM_ITEMS = 5000
"""The catalogue that retrieval scores."""

_NUM_CANDIDATES = 500
"""Of a request to a model that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    name: str
    num_layers: int
    d_model: int
    num_heads: int
    head_dim: int
    num_events: int
    num_candidates: int
    num_cached: int | None = None
    """Of the events, those in the state that the cached request begins with; None: all but one."""

    def config(self, capacity: int | None = None) -> HSTUConfig:
        """The native form at these sizes; `capacity` is that of the window, in events."""
        capacity = capacity or 2 * self.num_events
        return native(
            NUM_ITEMS,
            num_layers=self.num_layers,
            d_model=self.d_model,
            num_heads=self.num_heads,
            qk_dim=self.head_dim,
            v_dim=self.head_dim,
            window={"capacity": capacity, "keep": capacity // 2},
        )

    @classmethod
    def of(cls, name: str, config: HSTUConfig) -> Self:
        """Of a model that is there: as many events as its window keeps when it moves."""
        return cls(
            name=name,
            num_layers=config.num_layers,
            d_model=config.d_model,
            num_heads=config.num_heads,
            head_dim=config.qk_dim,
            num_events=config.window.keep,
            num_candidates=min(_NUM_CANDIDATES, config.num_items),
        )

    @property
    def title(self) -> str:
        return f"{self.num_layers} layers, {self.num_heads} heads of {self.head_dim}"


SHAPES = {
    shape.name: shape
    for shape in (
        # The shape of the published 210x over a loop of full forwards.
        Shape(
            name="mlwhiz",
            num_layers=2,
            d_model=64,
            num_heads=2,
            head_dim=32,
            num_events=200,
            num_candidates=1000,
        ),
        # RecTools' and Meta's HSTU-large on MovieLens, and the bundled checkpoint.
        Shape(
            name="ml-1m",
            num_layers=8,
            d_model=50,
            num_heads=2,
            head_dim=25,
            num_events=200,
            num_candidates=500,
        ),
        Shape(
            name="mid",
            num_layers=4,
            d_model=256,
            num_heads=4,
            head_dim=64,
            num_events=1024,
            num_candidates=512,
        ),
        # The lengths of `kuairand` for a model that a CPU runs in a fraction of a second.
        Shape(
            name="kuairand-small",
            num_layers=4,
            d_model=128,
            num_heads=4,
            head_dim=32,
            num_events=4096,
            num_candidates=256,
            num_cached=3968,
        ),
        # As NVIDIA's recsys-examples measure what a KV cache gains.
        Shape(
            name="kuairand",
            num_layers=8,
            d_model=1024,
            num_heads=4,
            head_dim=256,
            num_events=4096,
            num_candidates=256,
            num_cached=3968,
        ),
        # MLPerf's DLRMv3.
        Shape(
            name="dlrmv3",
            num_layers=5,
            d_model=512,
            num_heads=4,
            head_dim=128,
            num_events=7000,
            num_candidates=2048,
        ),
    )
}

SMALL_SHAPES = ("mlwhiz", "ml-1m", "mid", "kuairand-small")
"""Those that two CPU cores measure in a few minutes; the others are for a GPU, or for patience."""

STATE_SHAPES = (
    SHAPES["mlwhiz"],
    SHAPES["ml-1m"],
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
