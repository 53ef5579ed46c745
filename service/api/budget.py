"""Owns how long a request may take: the least that the body, a header and the server say."""

import math

from starlette.types import Scope

from service.api.scope import find
from service.deadline import Deadline
from service.errors import InvalidRequest


def deadline_of(scope: Scope, max_budget_ms: float, budget_ms: float | None) -> Deadline:
    """Counted from the first byte in. `budget_ms`: the body's; None: it has none.

    Raises:
        InvalidRequest: X-Request-Timeout-Ms is no budget.
    """
    budgets = [max_budget_ms]
    if budget_ms is not None:
        budgets.append(budget_ms)
    given = find(scope, b"x-request-timeout-ms")
    if given is not None:
        budgets.append(_positive_ms(given))
    return Deadline.after_ms(min(budgets), since_s=scope["state"]["began_s"])


def _positive_ms(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InvalidRequest("X-Request-Timeout-Ms is not a positive number of milliseconds")
    return value
