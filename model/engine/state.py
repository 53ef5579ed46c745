"""Owns the user state: a history and the K and V of its final rows.

Never mutated: extending makes a new state, so a state may be read while its successor is built.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from model.config import HSTUConfig
from model.history import EMPTY, History


@dataclass(frozen=True, slots=True)
class UserState:
    """Rows 0..N-2 of the history are final and kept; the newest is pending.

    A row looks from the time of the event after it, so the newest event's row cannot be final
    before the next event arrives. A model whose rows change from request to request keeps none
    (F = 0): its states hold the events alone.
    """

    history: History
    keys: Tensor  # (layers, H, F, K)
    values: Tensor  # (layers, H, F, V)

    @classmethod
    def empty(cls, config: HSTUConfig, device: torch.device) -> Self:
        shape = (config.num_layers, config.num_heads, 0)
        return cls(
            EMPTY,
            torch.empty(*shape, config.qk_dim, device=device),
            torch.empty(*shape, config.v_dim, device=device),
        )

    @property
    def num_final(self) -> int:
        return self.keys.shape[2]

    @property
    def num_bytes(self) -> int:
        """Of all its tensors."""
        history = self.history
        columns = (self.keys, self.values, history.items, history.actions, history.timestamps)
        return sum(column.nbytes for column in columns)

    def reusable_rows(self, history: History) -> int:
        """How many of this state's rows are rows of `history` too.

        Row i depends on events 0..i and on the time of event i + 1. One rule for appended, late,
        corrected and deleted events.
        """
        return min(self.num_final, max(self.history.common_prefix(history) - 1, 0))
