"""Owns what is done to the connections between the service and Redis."""

from typing import Final

from loadtests.faults.fault import Again, Fault
from loadtests.faults.stage import Stage

DELAY_S: Final = 0.2


class Slow(Fault):
    name = "redis-slow"

    async def begin(self, stage: Stage) -> None:
        stage.proxy.delay_s = DELAY_S

    async def end(self, stage: Stage) -> None:
        stage.proxy.delay_s = 0.0


class Lost(Again):
    name = "connections-lost"

    async def begin(self, stage: Stage) -> None:
        stage.proxy.cut()


class HalfOpen(Again):
    """The other end is gone, and nobody says so; new connections are as they should be."""

    name = "connections-half-open"

    async def begin(self, stage: Stage) -> None:
        stage.proxy.die()
