"""Owns the outcome of an import: a configuration and a full state dict. Never reads files."""

from dataclasses import dataclass

from torch import Tensor

from model.config import HSTUConfig
from model.network.hstu import HSTU


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
