"""Owns the states that this replica keeps as tensors, where the engine reads them without a copy.

Never trusted alone: whoever takes a state from here asks the store whether it is still the newest.
Where the store does not answer, a copy that it confirmed lately may stand in.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from service.codec import StoredState

_LEASE_S: Final = 60.0
"""How long a copy may stand in: longer than a failover, and the longest that somebody whom another
replica has forgotten is still known to one that is cut off from the store."""


@dataclass(slots=True)
class _Kept:
    stored: StoredState
    confirmed_s: float


class DeviceTier:
    """Least recently used out first, within `max_bytes` of tensors; for one event loop."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._clock = max_bytes, clock
        self._held: OrderedDict[str, _Kept] = OrderedDict()
        self.num_bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, user_id: str) -> StoredState | None:
        found = self._held.get(user_id)
        if found is None:
            return None
        self._held.move_to_end(user_id)
        return found.stored

    def get_unconfirmed(self, user_id: str) -> StoredState | None:
        """What the store confirmed lately, for when it can not be asked."""
        found = self._held.get(user_id)
        if found is None or self._clock() - found.confirmed_s > _LEASE_S:
            return None
        return found.stored

    def confirm(self, user_id: str) -> None:
        """The store has just told that it holds the same. It may have made room meanwhile."""
        found = self._held.get(user_id)
        if found is not None:
            found.confirmed_s = self._clock()

    def put(self, user_id: str, stored: StoredState) -> bool:
        """Take the place of what is held; False: larger than the tier, nothing is kept.

        The store has just given or taken it.
        """
        self.drop(user_id)
        if stored.state.num_bytes > self._max_bytes:
            return False
        self._held[user_id] = _Kept(stored, self._clock())
        self.num_bytes += stored.state.num_bytes
        while self.num_bytes > self._max_bytes:
            self.drop(next(iter(self._held)))
            self.evictions += 1
        return True

    def drop(self, user_id: str) -> None:
        held = self._held.pop(user_id, None)
        if held is not None:
            self.num_bytes -= held.stored.state.num_bytes
