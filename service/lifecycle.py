"""Owns the phase the service is in, which readiness and liveness are read from."""

from enum import StrEnum

from service.errors import NotReady


class Phase(StrEnum):
    STARTING = "starting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Lifecycle:
    """Moves forward only."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING

    def enter(self, phase: Phase) -> None:
        order = list(Phase)
        assert order.index(phase) > order.index(self.phase), f"{self.phase} -> {phase}"
        self.phase = phase

    def drain(self) -> None:
        """Say that the service is about to go, once."""
        if self.phase not in (Phase.DRAINING, Phase.STOPPED):
            self.enter(Phase.DRAINING)

    @property
    def is_draining(self) -> bool:
        return self.phase is Phase.DRAINING

    def require_open(self) -> None:
        """While it drains, too, the service answers whoever still comes.

        Raises:
            NotReady: requests are not taken now.
        """
        if self.phase not in (Phase.READY, Phase.DRAINING):
            raise NotReady(f"the service is {self.phase}", retry_after_s=1)
