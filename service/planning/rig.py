"""Owns a service under measurement: it, its Redis and its client, each a process on loopback.

Never judges what is measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from model.checkpoint import Checkpoint, load
from model.config import Window
from service.benchmark.load.processes import client_of, mfalcon_process
from service.benchmark.load.traffic import Plan
from service.benchmark.worker import Worker
from service.codec import StateCodec
from service.embedded import EmbeddedValkey
from service.planning.traffic import Traffic

NUM_USERS = 48
"""Who return in turns: enough that nobody waits for a request of their own, and that windows do not
fill up; few enough that connections stay in use."""

PATIENT_MS = 1000.0
"""What requests of a measurement give the service: nothing is to be cut short."""

_ROOM_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Rig:
    """Running, with every user's history known."""

    checkpoint: Checkpoint
    plan: Plan
    client: Worker
    process_id: int  # of the service
    redis_url: str

    def loop_s(self) -> tuple[float, float]:
        """Seconds that the event loop, the service's first thread, has run, and has waited for a
        core to run on.

        Raises:
            RuntimeError: the system does not tell; Linux does.
        """
        pid = self.process_id
        try:
            told = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
        except OSError as error:
            raise RuntimeError(f"the system does not tell of threads: {error}") from error
        return int(told[0]) / 1e9, int(told[1]) / 1e9

    def redis_bytes(self) -> tuple[int, int]:
        """That the server has received and sent."""
        with redis.Redis.from_url(self.redis_url) as server:
            stats = server.info("stats")
        return int(stats["total_net_input_bytes"]), int(stats["total_net_output_bytes"])

    def memory_over_bytes(self, codec: StateCodec) -> float:
        """What the server takes for the users' states, over the bytes of them."""
        taken = held = 0
        with redis.Redis.from_url(self.redis_url) as server:
            for place in range(self.plan.num_users):
                name = codec.key(f"user-{place}").name
                taken += server.memory_usage(name) or 0
                held += int(server.strlen(name))
        if not held:
            raise RuntimeError("the service stored no state")
        return taken / held

    def open_load(self, rate: float, seconds: float) -> dict[str, Any]:
        return self._asked({"do": "open", "rate": rate, "seconds": seconds})

    def closed_load(self, clients: int, seconds: float) -> dict[str, Any]:
        return self._asked({"do": "closed", "clients": clients, "seconds": seconds})

    def _asked(self, message: dict[str, Any]) -> dict[str, Any]:
        load: dict[str, Any] = self.client.ask(message)
        if not load["latencies_ms"]:
            raise RuntimeError("no request was answered whole within a second")
        return load


def usual_events(traffic: Traffic, window: Window) -> int:
    """In a window: one that is full is rebuilt from its newest, and grows again."""
    return min(traffic.history_events, (window.keep + window.capacity) // 2)


@contextmanager
def rig(folder: Path, traffic: Traffic, *, threads: int, seed: int) -> Iterator[Rig]:
    """
    Raises:
        RuntimeError: a process did not start or ended.
        EmbeddedUnavailable: there is no embedded server for this machine.
    """
    checkpoint = load(folder)
    plan = Plan(
        num_users=NUM_USERS,
        num_events=usual_events(traffic, checkpoint.config.window),
        num_candidates=min(traffic.candidates, checkpoint.config.num_items),
        num_items=checkpoint.config.num_items,
        num_actions=len(checkpoint.config.actions),
        budget_ms=PATIENT_MS,
        seed=seed,
    )
    with EmbeddedValkey(_ROOM_BYTES) as server:
        flags = ["--threads", str(threads), "--store", server.url]
        flags += ["--device-cache-bytes", str(_ROOM_BYTES)]
        with (
            mfalcon_process(folder, flags) as (port, process_id),
            client_of(port, folder, plan) as client,
        ):
            yield Rig(checkpoint, plan, client, process_id, server.url)
