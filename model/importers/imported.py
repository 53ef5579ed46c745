"""Owns the outcome of an import: a configuration and a full state dict, and what to ask for."""

from dataclasses import dataclass, fields
from typing import Literal

from torch import Tensor

from model.config import HSTUConfig
from model.network.hstu import HSTU


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a state dict does not tell. None where the source's own default is meant."""

    num_heads: int | None = None
    max_length: int | None = None
    temperature: float | None = None
    similarity: Literal["cosine", "dot"] | None = None
    item_scale: Literal["none", "sqrt_d"] | None = None
    time_fn: Literal["log", "sqrt"] | None = None
    time_unit_s: int | None = None
    time_width: float | None = None

    def given(self) -> dict[str, object]:
        """The options that are set, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Imported:
    """Tensors under this project's names; `item_ids`, the source's own indices, in order."""

    config: HSTUConfig
    tensors: dict[str, Tensor]
    item_ids: list[str]

    def network(self) -> HSTU:
        """The network in evaluation mode, with a prior that prefers no item."""
        network = HSTU(self.config)
        prior = {"retrieval.prior": network.retrieval.prior}
        network.load_state_dict(self.tensors | prior)
        return network.eval()
