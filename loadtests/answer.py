"""What the service says in one answer.

Owns reading the answers to `/recommend`, `/recommend/batch` and `/events`. Never sends anything
and never counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from loadtests.record import Sample
from loadtests.traffic import Visit

OK = 200
UNKNOWN_BODY = "unknown_body"
MIXED = "mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer; the fields are those of `Sample`."""

    status: int
    code: str = ""
    complete: bool = False
    degraded: list[str] = field(default_factory=list)
    cache_status: str = ""
    tier: str | None = None
    reused_events: int = 0
    encoded_events: int = 0
    timing_ms: dict[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, kind: str, status: int, body: bytes | None) -> Self:
        """Read the answer to a visit of `kind`; whatever it is, there is a code for it."""
        try:
            fields = json.loads(body or b"null")
        except ValueError:
            fields = None
        if status != OK:
            code = fields.get("code") if isinstance(fields, dict) else None
            return cls(status=status, code=code if isinstance(code, str) else f"{status}")
        try:
            return {"recommend": cls._ranked, "events": cls._stored, "batch": cls._batch}[kind](
                fields
            )
        except (KeyError, TypeError):
            return cls(status=status, code=UNKNOWN_BODY)

    @classmethod
    def none(cls, error: BaseException) -> Self:
        """No whole answer came, for want of time or of a connection."""
        return cls(status=0, code=type(error).__name__)

    @property
    def is_ok(self) -> bool:
        """Whether the service did what it was asked, if perhaps not all of it in time."""
        return self.status == OK and not self.code

    @property
    def accepted(self) -> bool:
        """Whether the events that were sent are the service's now, and need not be sent again."""
        return self.is_ok and "not_stored" not in self.degraded

    def sample(self, visit: Visit, *, at_s: float, waited_ms: float, latency_ms: float) -> Sample:
        return Sample(
            at_s=at_s,
            waited_ms=waited_ms,
            latency_ms=latency_ms,
            kind=visit.kind,
            user=visit.user,
            **{name: getattr(self, name) for name in self.__slots__},
        )

    @classmethod
    def _ranked(cls, fields: Mapping[str, Any]) -> Self:
        cache = fields["cache"]
        list(fields["items"])
        return cls(
            status=OK,
            complete=bool(fields["complete"]),
            degraded=list(fields.get("degraded", ())),
            cache_status=str(cache["status"]),
            tier=cache.get("tier"),
            reused_events=int(cache["reused_events"]),
            encoded_events=int(cache["encoded_events"]),
            timing_ms=dict(fields.get("timing_ms", {})),
        )

    @classmethod
    def _stored(cls, fields: Mapping[str, Any]) -> Self:
        stored = bool(fields["stored"])
        return cls(status=OK, complete=stored, degraded=[] if stored else ["not_stored"])

    @classmethod
    def _batch(cls, fields: Mapping[str, Any]) -> Self:
        """All entries as one answer; a problem of one is the code of all, stages are left out:
        those of several entries overlap."""
        entries: Sequence[Mapping[str, Any]] = fields["results"]
        codes = [str(entry["code"]) for entry in entries if "code" in entry]
        answers = [cls._ranked(entry) for entry in entries if "code" not in entry]
        statuses = {each.cache_status for each in answers}
        tiers = {each.tier for each in answers}
        return cls(
            status=OK,
            code=codes[0] if codes else "",
            complete=not codes and all(each.complete for each in answers),
            degraded=sorted({name for each in answers for name in each.degraded}),
            cache_status=statuses.pop() if len(statuses) == 1 else MIXED,
            tier=tiers.pop() if len(tiers) == 1 else None,
            reused_events=sum(each.reused_events for each in answers),
            encoded_events=sum(each.encoded_events for each in answers),
        )
