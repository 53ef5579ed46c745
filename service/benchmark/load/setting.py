"""Owns how services are put under load: threads, users, budget, store, and turns of seconds."""

from dataclasses import dataclass

from model.config import HSTUConfig
from service.benchmark.load.traffic import Plan
from service.benchmark.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a person chooses; the same for every contender."""

    threads: int  # of mfalcon's engine
    num_users: int
    budget_ms: float
    store: str  # as `mfalcon serve --store`
    turn_s: float
    rounds: int
    seed: int

    def plan(self, shape: Shape, config: HSTUConfig | None = None) -> Plan:
        """`config`: of a model that was not made up for the shape."""
        config = config or shape.config()
        return Plan(
            num_users=self.num_users,
            num_events=shape.num_events,
            num_candidates=shape.num_candidates,
            num_items=config.num_items,
            num_actions=len(config.actions),
            budget_ms=self.budget_ms,
            seed=self.seed,
        )

    def flags(self, shape: Shape, config: HSTUConfig | None = None) -> list[str]:
        """Of `mfalcon serve`: room for the state of every user, in every tier."""
        config = config or shape.config()
        num_bytes = max(self.num_users * _largest_state_bytes(config), 1 << 26)
        return [
            *("--threads", str(self.threads)),
            *("--store", self.store),
            *("--store-memory-bytes", str(2 * num_bytes)),
            *("--device-cache-bytes", str(2 * num_bytes)),
        ]


def _largest_state_bytes(config: HSTUConfig) -> int:
    """Of a full window, in float32."""
    numbers = config.num_layers * config.num_heads * (config.qk_dim + config.v_dim)
    return 4 * numbers * config.window.capacity
