"""Owns how soon the interpreter goes from the event loop to the engine thread.

The engine thread asks for it after each of its operations. By default a loop that is busy may keep
it for half a batch: one that refuses a flood would leave the engine standing still.
"""

import ctypes
import sys

_SWITCH_S = 0.00001
_TIMER_SLACK_NS = 1_000
_PR_SET_TIMERSLACK = 29  # from linux/prctl.h


def switch_soon() -> None:
    """Before the engine thread is started: it takes over what the system is told here.

    Whoever waits for the interpreter asks for it when a timer ends, and Linux lets a timer end
    50 us late, five times as long as the interpreter may be kept.
    """
    sys.setswitchinterval(_SWITCH_S)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
