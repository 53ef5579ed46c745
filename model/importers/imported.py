"""Owns the outcome of an import: a configuration and a full state dict, and what to ask for."""

from dataclasses import dataclass

from torch import Tensor

from model.config import HSTUConfig
from model.network.hstu import HSTU


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a state dict does not tell. None where the source's own default is meant."""

    num_heads: int | None = None
    max_length: int | None = None
    temperature: float | None = None


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
