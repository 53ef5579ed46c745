"""Owns the order of those who wait for the engine: fair between clients, else first come, first
served. Never waits and never runs anything; its user holds a lock.

Start-time fair queueing: a job begins, on a clock of work, where its client's last one ends. So
whoever asks for much waits behind themselves, and a newcomer only behind their own share of others.
"""

from bisect import insort_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    item: T
    client: str
    seconds: float
    start: float


class FairQueue(Generic[T]):
    """Items with the client who asks and the seconds they are expected to take."""

    def __init__(self) -> None:
        self._entries: list[_Entry[T]] = []
        self._now = 0.0
        self._ends: dict[str, float] = {}  # of each client's last

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return (entry.item for entry in self._entries)

    def __contains__(self, item: T) -> bool:
        return any(entry.item == item for entry in self._entries)

    def first(self, is_ready: Callable[[T], bool]) -> T | None:
        return next((entry.item for entry in self._entries if is_ready(entry.item)), None)

    def last_after(self, client: str) -> T | None:
        """The last in line if a newcomer of `client` came before it: it is beyond its share."""
        last = self._entries[-1]
        return last.item if self._start(client) < last.start else None

    def ahead_s(self, client: str) -> float:
        """Seconds of those whom a newcomer of `client` would wait for."""
        start = self._start(client)
        return sum(entry.seconds for entry in self._entries if entry.start <= start)

    def before_s(self, item: T) -> float:
        """Seconds of those in line before one that waits."""
        return sum(entry.seconds for entry in self._entries[: self._place(item)])

    def put(self, item: T, client: str, seconds: float) -> None:
        start = self._start(client)
        self._ends[client] = start + seconds
        entry = _Entry(item, client, seconds, start)
        insort_right(self._entries, entry, key=lambda entry: entry.start)

    def weigh(self, item: T, seconds: float) -> None:
        """It is expected to take another time than when it was put; it keeps its place."""
        entry = self._entries[self._place(item)]
        self._ends[entry.client] += seconds - entry.seconds
        entry.seconds = seconds

    def take(self, item: T) -> None:
        """It has its turn."""
        entry = self._entries.pop(self._place(item))
        self._now = max(self._now, entry.start)
        self._forget_if_empty()

    def remove(self, item: T) -> bool:
        """Without its turn. Whether it was there."""
        is_there = item in self
        if is_there:
            del self._entries[self._place(item)]
            self._forget_if_empty()
        return is_there

    def clear(self) -> None:
        self._entries.clear()
        self._forget_if_empty()

    def _place(self, item: T) -> int:
        return next(n for n, entry in enumerate(self._entries) if entry.item == item)

    def _start(self, client: str) -> float:
        return max(self._now, self._ends.get(client, 0.0))

    def _forget_if_empty(self) -> None:
        if not self._entries:
            self._now = 0.0
            self._ends.clear()
