"""Owns the user state: a history and the K and V of its final rows.

Never mutated: extending makes a new state, so a state may be read while its successor is built.
"""

from dataclasses import dataclass

from torch import Tensor

from model.cacheability import classify
from model.config import HSTUConfig
from model.history import History
from model.kernels.pages import PagedRows


@dataclass(frozen=True, slots=True)
class UserState:
    """Rows 0..N-2 of the history are final and kept; the newest is pending.

    A row looks from the time of the event after it, so the newest event's row cannot be final
    before the next event arrives. A model whose rows change from request to request keeps none
    (F = 0): its states hold the events alone.
    """

    history: History
    rows: PagedRows  # F of them

    @property
    def keys(self) -> Tensor:
        """A copy, (layers, H, F, K)."""
        return self.rows.read()[0]

    @property
    def values(self) -> Tensor:
        """A copy, (layers, H, F, V)."""
        return self.rows.read()[1]

    @property
    def num_final(self) -> int:
        return self.rows.num_rows

    @property
    def num_bytes(self) -> int:
        """Of its pages and events."""
        history = self.history
        columns = (history.items, history.actions, history.timestamps)
        return self.rows.num_bytes + sum(column.nbytes for column in columns)

    def reusable_rows(self, history: History) -> int:
        """How many of this state's rows are rows of `history` too.

        Row i depends on events 0..i and on the time of event i + 1. One rule for appended, late,
        corrected and deleted events.
        """
        return min(self.num_final, max(self.history.common_prefix(history) - 1, 0))


def num_final_rows(config: HSTUConfig, num_events: int) -> int:
    """Rows of a history that the next request can reuse."""
    return max(num_events - 1, 0) if classify(config).across_requests else 0


def num_imagined_rows(config: HSTUConfig, num_known: int, count: int) -> int:
    """Rows that a branch encodes for `count` events, one after another, of a user with `num_known`
    events so far: one each, unless the window moves or nothing can be reused."""
    start, keeps_rows = config.window.start, classify(config).across_requests
    return sum(
        1 if keeps_rows and start(known) == start(known - 1) else known - start(known)
        for known in range(num_known + 1, num_known + count + 1)
    )
