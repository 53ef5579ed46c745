"""Owns whether answers given during faults were right: asked again of a service without a store.

It gets the whole history that was known then, under another user id, and ranks the same items at
the same time. An answer that said it knew less may have used less: then a history that the service
may have held must give its scores.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from loadtests.faults.product import Given

TOLERANCE: Final = 1e-4
"""As a share of a score, or of 1: each of the two is within 1e-5 of the oracle on logits, and a
score adds a few of them up."""

MOST_LOST: Final = 20
MOST_AFTER: Final = 40
"""Events that were lost in a row, and those after them, in a history that is searched for."""

_UNRANKED: Final = "popularity"

History = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Checked:
    """Answers that the model had ranked, and the largest difference of a score."""

    num_right: int = 0
    num_wrong: int = 0
    largest: float = 0.0

    @property
    def told(self) -> str:
        return f"{self.num_right} scored again, largest difference {self.largest:.0e}"


class Recheck:
    """Asks the service at `host`. Blocks."""

    def __init__(self, host: str) -> None:
        self._client = httpx.Client(base_url=host, trust_env=False, timeout=60.0)
        self._num_asked = 0

    def close(self) -> None:
        self._client.close()

    def check(self, given: Given, known: History, checked: Checked) -> None:
        """Raises httpx.HTTPError if the other service does not answer."""
        body = given.body
        scores = {item["item_id"]: item["score"] for item in body["items"]}
        scores = {item: score for item, score in scores.items() if score is not None}
        if not scores or _UNRANKED in body["degraded"]:
            return
        num_used = body["cache"]["reused_events"] + body["cache"]["encoded_events"]
        if body["complete"]:
            histories: Iterator[History] = iter([known])
        else:
            histories = possible(known, num_used)
        least = float("inf")
        for history in histories:
            right = self._scores(history, list(scores), given.request_time)
            least = min(least, difference(scores, right))
            if least <= TOLERANCE:
                break
        checked.num_right += least <= TOLERANCE
        checked.num_wrong += least > TOLERANCE
        checked.largest = max(checked.largest, least)

    def _scores(self, history: History, items: list[str], request_time: int) -> dict[str, float]:
        self._num_asked += 1
        asked = {
            "user_id": f"recheck-{self._num_asked}",
            "events": list(history),
            "history_mode": "replace",
            "candidates": items,
            "num_results": len(items),
            "exclude_seen": False,
            "request_time": request_time,
        }
        answer = self._client.post("/recommend", json=asked).raise_for_status().json()
        if not answer["complete"]:
            raise httpx.HTTPError(f"an answer that leaves out something: {answer['degraded']}")
        return {item["item_id"]: item["score"] for item in answer["items"]}


def difference(served: Mapping[str, float], right: Mapping[str, float]) -> float:
    """The largest of all items, as a share of the score or of 1."""
    return max(abs(served[item] - right[item]) / max(1.0, abs(right[item])) for item in served)


def possible(known: History, num_used: int) -> Iterator[History]:
    """Histories of `num_used` events that a service may hold that was told all of `known`.

    First the newest; then, where some in a row were lost, as many as are missing, or fewer where
    the window has left older ones behind.
    """
    if not num_used:
        yield []
        return
    yield known[-num_used:]
    missing = len(known) - num_used
    for num_lost in dict.fromkeys([missing, *range(1, min(missing, MOST_LOST) + 1)]):
        for num_after in range(min(num_used, MOST_AFTER) + 1 if num_lost > 0 else 0):
            until = len(known) - num_after
            held = [*known[: until - num_lost], *known[until:]]
            yield held[-num_used:]
