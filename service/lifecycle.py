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

    def require_ready(self) -> None:
        """
        Raises:
            NotReady: requests are not taken now.
        """
        if self.phase is not Phase.READY:
            raise NotReady(f"the service is {self.phase}", retry_after_s=1)
