"""What a replay is reported by: online figures, offline ones beside them, and whether they agree.

Owns the comparison and the table. Never computes a figure of its own.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from rich.table import Table

from loadtests.replay.offline import Offline
from loadtests.replay.outcome import Calibration, Estimate, Outcome, calibration, gain, hit_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Of all steps that were played."""

    fingerprint: str  # of the checkpoint that is served
    num_events: int
    hit_rate: Estimate  # HR@10 over the whole catalogue, by retrieval score
    gain: Estimate  # NDCG@10, the same
    shown_hit_rate: Estimate  # HR@10 of the list as it was given, by the value formula
    shown_gain: Estimate
    actions: dict[str, Calibration]
    offline: Offline | None

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], *, fingerprint: str, offline: Offline | None) -> Self:
        ranks, places = [each.rank for each in outcomes], [each.place for each in outcomes]
        return cls(
            fingerprint=fingerprint,
            num_events=len(outcomes),
            hit_rate=hit_rate(ranks),
            gain=gain(ranks),
            shown_hit_rate=hit_rate(places),
            shown_gain=gain(places),
            actions=calibration(outcomes),
            offline=offline,
        )

    def problem(self) -> str | None:
        """Why it does not agree with the offline evaluation; None if it does, or there is none."""
        if self.offline is None:
            return None
        if self.offline.fingerprint != self.fingerprint:
            return (
                f"the service serves another checkpoint ({self.fingerprint}) than was evaluated "
                f"({self.offline.fingerprint})"
            )
        if self.offline.num_targets != self.num_events:
            return f"{self.num_events} events were played, {self.offline.num_targets} evaluated"
        difference = abs(self.hit_rate.value - self.offline.hit_rate)
        if difference > self.hit_rate.error:
            return (
                f"HR@10 differs from the offline evaluation by {difference:.4f}, more than one "
                f"standard error ({self.hit_rate.error:.4f})"
            )
        return None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"agrees": None if self.offline is None else self.problem() is None}

    def table(self) -> Table:
        told = self.offline
        hits, gains = (None, None) if told is None else (told.hit_rate, told.gain)
        errors = {} if told is None else told.calibration_error
        table = Table("", "online", "standard error", "offline", title=f"{self.num_events} events")
        for name, online, offline in (
            ("HR@10", self.hit_rate, hits),
            ("NDCG@10", self.gain, gains),
            ("HR@10 of the list as shown", self.shown_hit_rate, None),
            ("NDCG@10 of the list as shown", self.shown_gain, None),
        ):
            table.add_row(name, _figure(online.value), _figure(online.error), _figure(offline))
        for action, found in self.actions.items():
            what = f"{action}: expected {found.predicted:.4f}, happened {found.share:.4f}; off by"
            table.add_row(what, _figure(found.calibration_error), "", _figure(errors.get(action)))
        return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
