"""Owns the little of a body that says what a request costs."""

import re
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


_CANDIDATES: Final = re.compile(rb'"candidates"\s*:\s*\[')
_UNTOLD: Final = (b'"candidates"', b'"mode"')
"""Where what stands there is another than the least."""
_BUDGET_MS: Final = re.compile(rb'"budget_ms"\s*:\s*(\d+(?:\.\d+)?)\s*[,}]')


@dataclass(frozen=True, slots=True)
class Peek:
    size: Size
    budget_ms: float | None

    @classmethod
    def least(cls, body: bytes) -> Self | None:
        """What a request asks for at least, told by the marks of its body: reading it takes several
        times as long. None: they do not tell.
        """
        if b"\\" in body:  # what is escaped may name anything
            return None
        num_candidates, rest = None, body
        if found := _CANDIDATES.search(body):
            # An id that holds the closing bracket makes them fewer.
            start, stop = found.end(), body.find(b"]", found.end())
            num_candidates = body.count(b'"', start, stop) // 2
            rest = body[: found.start()] + body[stop:]
        budget_ms = _BUDGET_MS.search(rest)
        if any(name in rest for name in _UNTOLD) or (budget_ms is None and b'"budget_ms"' in rest):
            return None
        size = Size(num_events=0, num_candidates=num_candidates, num_results=0)
        return cls(size, None if budget_ms is None else float(budget_ms[1]))

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
