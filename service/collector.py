"""Owns when Python's garbage collector looks for cycles: it stops event loop and engine meanwhile.

Never collects while requests are served but for what exceeds a bound: they leave nothing to it.
"""

import gc
from typing import Final

_YOUNG_OBJECTS: Final = 20_000
"""How many more there are when it looks. By default a few requests at once have as many."""

_DEFAULT: Final = gc.get_threshold()


def calm() -> None:
    """What exists by now, modules for the most part, stays, and is walked through no more."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def sweep() -> None:
    """Let it see, once, what it was kept off: something large was let go."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def restore() -> None:
    """As a program that serves nothing has it."""
    gc.unfreeze()
    gc.set_threshold(*_DEFAULT)
