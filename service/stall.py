"""Owns noticing that the engine thread hangs: alive, and never done with a batch.

Never interrupts it, which nothing can.
"""

import asyncio
from typing import Final

from service.scheduler import EngineThread

_NUM_LOOKS: Final = 10
"""In which the same batch has to be seen, rather than a clock: a process that was stopped, or an
event loop that was held up, has looked once in that time."""


async def watch(thread: EngineThread, stall_s: float) -> None:
    """Until the thread has ended; give it up once one batch has run for `stall_s`."""
    seen, num_looks = None, 0
    while thread.alive:
        await asyncio.sleep(stall_s / _NUM_LOOKS)
        batch = thread.batch
        num_looks = num_looks + 1 if batch is not None and batch is seen else 0
        seen = batch
        if num_looks == _NUM_LOOKS:
            thread.give_up()
