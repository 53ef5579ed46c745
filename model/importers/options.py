"""Owns what a foreign state dict does not tell. Never reads one."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ImportOptions(BaseModel):
    """None where the source's own default is meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    heads: int | None = Field(
        default=None, ge=1, description="attention heads; needed for meta and rectools"
    )
    length: int | None = Field(
        default=None,
        ge=2,
        description="longest history; genrec: 50, rectools: needed if it has no positions",
    )
    temperature: float | None = Field(
        default=None, description="logits are divided by it; meta and rectools: 0.05, rechub: 1"
    )
    similarity: Literal["cosine", "dot"] | None = Field(
        default=None, description="rectools: cosine, rechub: dot"
    )
    item_scale: Literal["none", "sqrt_d"] | None = Field(
        default=None, description="of items at the input; rectools: sqrt_d, rechub: none"
    )
    time_fn: Literal["log", "sqrt"] | None = Field(
        default=None, description="of rechub's time buckets: sqrt"
    )
    time_unit_s: int | None = Field(
        default=None, ge=1, description="seconds in rechub's unit of time: 60"
    )
    time_width: float | None = Field(
        default=None, gt=0, description="rechub's time_bucket_divisor: 1"
    )
