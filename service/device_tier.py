"""Owns the states that this replica keeps as tensors, where the engine reads them without a copy.

Never trusted alone: whoever takes a state from here asks the store whether it is still the newest.
"""

from collections import OrderedDict

from service.codec import StoredState


class DeviceTier:
    """Least recently used out first, within `max_bytes` of tensors; for one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, StoredState] = OrderedDict()
        self.num_bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, user_id: str) -> StoredState | None:
        found = self._held.get(user_id)
        if found is not None:
            self._held.move_to_end(user_id)
        return found

    def put(self, user_id: str, stored: StoredState) -> None:
        """Take the place of what is held; what is larger than the tier is not kept."""
        self.drop(user_id)
        if stored.state.num_bytes > self._max_bytes:
            return
        self._held[user_id] = stored
        self.num_bytes += stored.state.num_bytes
        while self.num_bytes > self._max_bytes:
            self.drop(next(iter(self._held)))
            self.evictions += 1

    def drop(self, user_id: str) -> None:
        held = self._held.pop(user_id, None)
        if held is not None:
            self.num_bytes -= held.state.num_bytes
