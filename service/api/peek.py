"""Owns the little of a body that says what a request costs."""

from dataclasses import dataclass
from math import inf
from typing import Final, Self

from pydantic_core import from_json

from service.schemas import RecommendRequest
from service.serving import Size

_DEFAULTS: Final = {
    name: RecommendRequest.model_fields[name].default
    for name in ("events", "candidates", "num_results", "mode", "beam", "budget_ms")
}

_TOO_MANY: Final = 1 << 31
"""Whatever the settings: no time can be told for it, and it is for the route to refuse."""


@dataclass(frozen=True, slots=True)
class Peek:
    size: Size
    budget_ms: float | None

    @classmethod
    def at(cls, body: bytes) -> Self | None:
        """None: not the body of a request to recommend, as far as it is looked at."""
        try:
            given = from_json(body, cache_strings="keys")
        except ValueError:
            return None
        match _DEFAULTS | given if isinstance(given, dict) else None:
            case {
                "events": list(events),
                "candidates": None | list() as candidates,
                "num_results": int(num_results),
                "mode": mode,
                "beam": int(beam),
                "budget_ms": None | int() | float() as budget_ms,
            } if (budget_ms is None or 0 < budget_ms < inf) and max(num_results, beam) < _TOO_MANY:
                size = Size(
                    num_events=len(events),
                    num_candidates=None if candidates is None else len(candidates),
                    num_results=num_results,
                    beam=beam if mode == "slate" else None,
                )
                return cls(size, budget_ms)
        return None
