"""Owns how long the event loop may keep the interpreter from the engine thread.

The engine thread asks for it after each of its operations. A loop that may keep it for long, and
refuses a flood, leaves the engine standing still; one that has more to do than it has time for, and
must give it away at once, comes late to everything. So it is told by how late its timers are.
"""

import asyncio
import ctypes
import math
import sys
from typing import Final

_SHORT_S: Final = 0.00001
_LONG_S: Final = 0.001
_ON_TIME_S: Final = 0.0003
_LATE_S: Final = 0.0006
"""On average: the clock of uvloop counts whole milliseconds."""
_EVERY_S: Final = 0.01
_WEIGHT: Final = 0.1
"""Of the newest timer in how late they are."""

_TIMER_SLACK_NS: Final = 1_000
_PR_SET_TIMERSLACK: Final = 29  # from linux/prctl.h


def kept_s(late_s: float) -> float:
    """How long a loop may keep the interpreter whose timers are so late, on average."""
    share = (late_s - _ON_TIME_S) / (_LATE_S - _ON_TIME_S)
    return _SHORT_S * math.pow(_LONG_S / _SHORT_S, min(max(share, 0.0), 1.0))


class Interpreter:
    """That of this process, from `begin` to `end`."""

    def __init__(self) -> None:
        self._late_s, self._before_s = 0.0, 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """On the loop, before the engine thread is started: it takes over what the system is told
        here.

        Whoever waits for the interpreter asks for it when a timer ends, and Linux lets a timer end
        50 us late, five times as long as the interpreter may be kept at least.
        """
        self._before_s = sys.getswitchinterval()
        sys.setswitchinterval(_SHORT_S)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
        self._look_again(asyncio.get_running_loop())

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            sys.setswitchinterval(self._before_s)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        due_s = loop.time() + _EVERY_S
        self._timer = loop.call_at(due_s, self._look, loop, due_s)

    def _look(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        self._late_s += _WEIGHT * (loop.time() - due_s - self._late_s)
        sys.setswitchinterval(kept_s(self._late_s))
        self._look_again(loop)
