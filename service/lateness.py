"""Owns when a wait that is known beforehand is too long. Never refuses; whoever admits does."""

from typing import Final

_PLANNED: Final = 2 / 3
"""The share of what is left of a budget that may be planned for those ahead and the job itself. The
rest is for what nobody can foretell: without it, each that is taken is taken to the brim, and comes
late by the first pass that takes longer."""


def late_s(wait_s: float, need_s: float, left_s: float, after_s: float = 0.0) -> float:
    """By how much a job that waits so long, with so much time left, would be late; up to 0: it is
    not. One that needs more than three quarters of what may be planned is to have those.

    An idle engine takes whatever comes, and what has no time left does not wait: it is answered
    without the engine.

    Args:
        after_s: from the end of the job until its answer is out
    """
    if wait_s <= 0 or left_s <= 0:
        return 0.0
    planned_s = _PLANNED * (left_s - after_s)
    return wait_s + min(need_s, 0.75 * planned_s) - planned_s
