"""Owns what a user's history must be, in plain Python: kept event by event, window rule included.

Shares no code with `model.history`, so that an error there can not hide here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from model.config import Window
from model.history import Event

T = TypeVar("T")


@dataclass(slots=True)
class ReferenceHistory:
    """The events in the window, oldest first, and how many came before them."""

    window: Window
    held: list[Event] = field(default_factory=list)
    num_gone: int = 0

    def offer(self, events: Iterable[Event]) -> None:
        """New ones go to their place in time, behind those of the same second; then the window."""
        horizon = self.held[0].timestamp if self.num_gone else -1
        for event in [event for event in events if event.timestamp > horizon]:
            if event not in self.held:
                later = [other for other in self.held if other.timestamp > event.timestamp]
                self.held.insert(len(self.held) - len(later), event)
        num_kept = num_kept_of(self.num_gone + len(self.held), self.window)
        self.num_gone += len(self.held) - num_kept
        self.held = self.held[len(self.held) - num_kept :]

    def replace(self, events: Iterable[Event]) -> None:
        self.held, self.num_gone = [], 0
        self.offer(events)


def num_kept_of(count: int, window: Window) -> int:
    """What a window holds after so many events, had they come one by one."""
    kept = 0
    for _ in range(count):
        kept = kept + 1 if kept < window.capacity else window.keep
    return kept


def inherited(num_gone: int, known: list[T], window: Window) -> tuple[list[T], int]:
    """What another model holds of a user, and how many came before it, to whom it is told the
    `known` ones of the events in the window and that `num_gone` came before them."""
    kept = num_kept_of(num_gone + len(known), window)
    if kept > len(known):  # it would reach back to events that are not there any more
        num_gone, kept = 0, num_kept_of(len(known), window)
    return known[len(known) - kept :], num_gone + len(known) - kept
