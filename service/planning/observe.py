"""Owns putting the measured service under loads: clients that wait, and shares of what they are
answered, in turns, so that whatever else the machine does meets all of them alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.benchmark.timing import OnTurn, take_turns
from service.planning.rig import PATIENT_MS, Rig

CLIENTS = 8
"""Who ask again at once: enough to keep the engine busy, too few to fill a queue."""

LIGHT = 0.25
"""Of the most that is answered; most requests find the engine free."""

BETWEEN = (0.5, 0.75)
"""Of the same: how costs change with the load."""

_STARVED = 1.0
"""Seconds that the event loop waited for a core for each that it ran: more than the service's own
threads, its Redis and its client keep it waiting, so other programs had the cores."""

_LIGHT_LASTS = 2
"""Times as long as the others: it has the fewest requests."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One load."""

    load: dict[str, Any]  # what the client says
    loop_s: float  # that the event loop ran
    waited_s: float  # that it was kept waiting for a core
    redis_received: int  # bytes, by the server
    redis_sent: int

    @property
    def num_answers(self) -> int:
        return len(self.load["latencies_ms"])

    @property
    def per_s(self) -> float:
        return self.num_answers / float(self.load["elapsed_s"])

    @property
    def is_starved(self) -> bool:
        """Whether it tells more of other programs than of the service, which is to answer within
        PATIENT_MS: nothing is late by as much again unless one of the processes was stopped."""
        late = max(self.load["latencies_ms"]) > 2 * PATIENT_MS
        return late or self.waited_s > _STARVED * self.loop_s


@dataclass(frozen=True, slots=True)
class Observations:
    """Of each kind of load, one a round, but for those in which other programs had the cores."""

    full: list[Observed]  # clients that wait
    light: list[Observed]
    between: list[list[Observed]]  # by BETWEEN
    others: dict[float, list[Observed]]  # by the share of the most that came
    num_starved: int  # left out


def observe(
    rig: Rig, *, shares: Sequence[float], seconds: float, rounds: int, on_turn: OnTurn
) -> Observations:
    """Each load for `seconds` a round, the light one longer.

    Raises:
        RuntimeError: a process ended, nothing was answered, or other programs had the cores in all
            rounds of a load.
    """
    on_turn("warming up", 0, 1)
    rig.closed_load(CLIENTS, seconds / 2)
    peak_per_s = _observed(rig, rig.closed_load, CLIENTS, seconds).per_s
    turns = {0.0: partial(_observed, rig, rig.closed_load, CLIENTS, seconds)}
    for share in (LIGHT, *BETWEEN, *shares):
        length_s = _LIGHT_LASTS * seconds if share == LIGHT else seconds
        turns[share] = partial(_observed, rig, rig.open_load, share * peak_per_s, length_s)
    by_name = {f"{share:.0%} of the peak" if share else "at most": share for share in turns}
    found = take_turns(
        {name: turns[share] for name, share in by_name.items()}, rounds=rounds, on_turn=on_turn
    )
    by_share = {share: undisturbed(name, found[name]) for name, share in by_name.items()}
    num_starved = rounds * len(by_share) - sum(map(len, by_share.values()))
    full, light, *between = (by_share[share] for share in (0.0, LIGHT, *BETWEEN))
    others = {share: by_share[share] for share in shares}
    return Observations(full, light, between, others, num_starved)


def undisturbed(name: str, loads: Sequence[Observed]) -> list[Observed]:
    """Those in which no other program had the cores. Raises RuntimeError if there are none."""
    kept = [each for each in loads if not each.is_starved]
    if not kept:
        raise RuntimeError(
            f"other programs had the cores in all rounds of {name}: stop them, or raise --rounds"
        )
    return kept


def _observed(rig: Rig, load: Any, much: float, seconds: float) -> Observed:
    (ran_s, waited_s), (received, sent) = rig.loop_s(), rig.redis_bytes()
    told = load(much, seconds)
    (end_ran_s, end_waited_s), (end_received, end_sent) = rig.loop_s(), rig.redis_bytes()
    return Observed(
        told, end_ran_s - ran_s, end_waited_s - waited_s, end_received - received, end_sent - sent
    )


def waited_for_cores(loads: Sequence[Observed]) -> float:
    """Seconds that the event loop was kept waiting, for each it ran."""
    return sum(each.waited_s for each in loads) / sum(each.loop_s for each in loads)
