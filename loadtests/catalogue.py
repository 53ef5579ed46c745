"""What the service tells a client about itself, read from `GET /info`.

Owns the item ids, action names and limits that traffic is built from.
Never reads a checkpoint or a data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from loadtests.target import KEY_VARIABLE, TargetError, key_headers

INFO_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Item ids and actions the service knows, and how much one request may carry."""

    item_ids: tuple[str, ...]
    actions: tuple[str, ...]
    max_events: int | None = None
    max_candidates: int | None = None
    max_batch_users: int | None = None
    retrieval_candidates: int | None = None
    """Items that are scored of the catalogue, where a request names no candidates."""
    window: tuple[int, int] | None = None
    """Fewest and most events that the service keeps of somebody who was there long enough."""
    fingerprint: str = ""
    """Of the checkpoint that is served; empty where the service does not tell."""

    @classmethod
    def fetch(cls, host: str) -> Self:
        """Ask the service at `host`; raises TargetError within INFO_TIMEOUT_S per step."""
        url = f"{host}/info"
        try:
            # The environment's proxies would answer for a service that is not there.
            answer = httpx.get(url, headers=key_headers(), timeout=INFO_TIMEOUT_S, trust_env=False)
        except httpx.HTTPError as error:
            raise TargetError(
                f"no service at {host} ({error}); start one, or pass --host"
            ) from None
        if answer.status_code != httpx.codes.OK:
            hint = f"; set {KEY_VARIABLE}" if answer.status_code == httpx.codes.UNAUTHORIZED else ""
            raise TargetError(f"{url} answered {answer.status_code}{hint}")
        try:
            return cls.parse(answer.json())
        except ValueError as error:
            raise TargetError(f"{url} is not understood: {error}") from None

    @classmethod
    def parse(cls, info: object) -> Self:
        """Read the body of `GET /info`; raises ValueError naming the field."""
        if not isinstance(info, dict):
            raise ValueError("the body is not a JSON object")
        model = info.get("model")
        model = model if isinstance(model, dict) else {}
        limits = info.get("limits")
        limits = limits if isinstance(limits, dict) else {}
        return cls(
            item_ids=_names(info, "sample_item_ids"),
            actions=_names(info, "actions"),
            max_events=_limit(limits, "max_events"),
            max_candidates=_limit(limits, "max_candidates"),
            max_batch_users=_limit(limits, "max_batch_users"),
            retrieval_candidates=_limit(info, "retrieval_candidates"),
            window=_window(model),
            fingerprint=model.get("fingerprint", ""),
        )


def _names(info: Mapping[str, object], field: str) -> tuple[str, ...]:
    names = info.get(field)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{field!r} is not a list of names")
    return tuple(names)


def _window(model: Mapping[str, Any]) -> tuple[int, int] | None:
    try:
        window = model["config"]["window"]
        keep, capacity = window["keep"], window["capacity"]
    except (KeyError, TypeError):
        return None
    return (keep, capacity) if isinstance(keep, int) and isinstance(capacity, int) else None


def _limit(limits: Mapping[str, object], field: str) -> int | None:
    limit = limits.get(field)
    return limit if isinstance(limit, int) and limit > 0 else None
