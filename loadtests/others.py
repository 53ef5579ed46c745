"""How much of this machine's processor time others take: what is not ours, and what is stolen.

Owns telling a machine that is short of processor time from a service that is slow: how long the
service itself computes does not count, so it can excuse nothing by that.
"""

import asyncio
import time

import psutil

from loadtests.record import EVERY_S


class Others:
    """`began_s` is the run's beginning, of `time.perf_counter`, as are all times."""

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self._shares: list[tuple[float, float]] = []  # until when, of all cores since the last

    async def watch(self) -> None:
        """Look once a second until cancelled."""
        last = await asyncio.to_thread(_Clocks.read)
        while True:
            await asyncio.sleep(EVERY_S)
            now = await asyncio.to_thread(_Clocks.read)
            self._shares.append((now.at_s - self._began_s, now.others_since(last)))
            last = now

    def most(self, since_s: float, until_s: float) -> float:
        """The largest share of the processor time that they took in a second between the two."""
        shares = (share for at_s, share in self._shares if since_s < at_s < until_s + EVERY_S)
        return max(shares, default=0.0)


class _Clocks:
    """Processor seconds so far."""

    def __init__(self, at_s: float, busy_s: float, own_s: float) -> None:
        self.at_s, self.busy_s, self.own_s = at_s, busy_s, own_s

    @classmethod
    def read(cls) -> "_Clocks":
        every = psutil.cpu_times()
        # Interrupts are left out: most of them are for what is sent over loopback.
        busy_s = (
            every.user + every.system + sum(getattr(every, it, 0.0) for it in ("nice", "steal"))
        )
        return cls(time.perf_counter(), busy_s, _own_s())

    def others_since(self, before: "_Clocks") -> float:
        """Of all cores."""
        taken_s = (self.busy_s - before.busy_s) - (self.own_s - before.own_s)
        return max(0.0, taken_s / (self.at_s - before.at_s) / (psutil.cpu_count() or 1))


def _own_s() -> float:
    """Of this process and all that it started, those that have ended included."""
    own = psutil.Process()
    taken_s = 0.0
    for each in (own, *own.children(recursive=True)):
        try:
            taken_s += sum(each.cpu_times()[:4])  # its own, and its children's that have ended
        except psutil.NoSuchProcess:
            continue
    return taken_s
