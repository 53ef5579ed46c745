"""Owns what a fault is: what is done, for how long, and what is expected of the answers."""

import asyncio
from dataclasses import dataclass, field
from typing import ClassVar, Final

from loadtests.faults.product import Product
from loadtests.faults.stage import Stage

OK: Final = frozenset({200, 429})
"""A refusal is no error: on a busy machine a budget may not be enough for those ahead."""
_AGAIN_S: Final = 0.5


@dataclass(slots=True)
class Course:
    """How a fault went, in seconds since the run's beginning.

    `outages`: when the service itself was away, as it was told to be.
    """

    began_s: float
    ended_s: float
    outages: list[tuple[float, float]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Fault:
    """Subclasses say what is broken, and how it is mended."""

    name: ClassVar[str]
    expectation: ClassVar[str] = "no 5xx, p99 within the budget, right scores, back in 2 s"
    statuses: ClassVar[frozenset[int]] = OK
    with_p99: ClassVar[bool] = True

    def missing(self) -> str | None:
        """Why it can not be done on this machine."""
        return None

    async def prepare(self, stage: Stage) -> None:
        """Before it counts."""

    async def run(self, stage: Stage, product: Product) -> Course:
        """`product` is who sends the load."""
        del product
        began_s = stage.now_s()
        await self.begin(stage)
        await asyncio.sleep(stage.plan.seconds_each)
        await self.end(stage)
        return Course(began_s, stage.now_s())

    async def begin(self, stage: Stage) -> None: ...

    async def end(self, stage: Stage) -> None: ...

    async def restore(self, stage: Stage) -> None:
        """After what came of it was seen."""


class Again(Fault):
    """Done again and again; there is nothing to mend."""

    async def run(self, stage: Stage, product: Product) -> Course:
        del product
        began_s = stage.now_s()
        while stage.now_s() < began_s + stage.plan.seconds_each:
            await self.begin(stage)
            await asyncio.sleep(_AGAIN_S)
        return Course(began_s, stage.now_s())
