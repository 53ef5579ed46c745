"""Owns the errors a client can meet, each with its status and stable code (RFC 9457).

    ServiceError
    ├── InvalidRequest      422  invalid_request
    ├── Unauthorized        401  unauthorized        (WWW-Authenticate)
    ├── CheckpointRefused   422  checkpoint_refused
    ├── Forbidden           403  forbidden
    ├── UnknownUser         404  unknown_user
    ├── TooSlow             408  too_slow
    ├── ReloadRunning       409  reload_running
    ├── TooLarge            413  too_large
    ├── Overloaded          429  overloaded          (Retry-After)
    ├── NotReady            503  not_ready           (Retry-After)
    └── DeadlineExceeded    504  deadline_exceeded

Never carries internals: an unexpected exception becomes a bare 500 `internal`.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any, ClassVar, Final, Self

_MAX_ERRORS: Final = 20
_MAX_FIELD: Final = 200


class ServiceError(Exception):
    """An answer that is not a result. `detail` is for a person and says what to do."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: int | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.errors = errors

    def problem(self, request_id: str, instance: str) -> dict[str, Any]:
        """The body of the problem+json answer."""
        body: dict[str, Any] = {
            "type": f"urn:mfalcon:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "request_id": request_id,
        }
        if self.retry_after_s is not None:
            body["retry_after_s"] = self.retry_after_s
        if self.errors is not None:
            body["errors"] = self.errors
        return body


class Unexpected(ServiceError):
    def __init__(self) -> None:
        super().__init__("an unexpected error; the log has it under this request id")


class InvalidRequest(ServiceError):
    status, code, title = 422, "invalid_request", "Invalid request"

    @classmethod
    def of(cls, wrong: Iterable[tuple[Sequence[int | str], str]]) -> Self:
        """What is wrong with a body: where in it, and what. Values are not quoted."""
        errors = [
            # Names come from the request, at whatever length.
            {"field": ".".join(map(str, where))[:_MAX_FIELD] or "body", "message": what}
            for where, what in islice(wrong, _MAX_ERRORS)
        ]
        return cls(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)


class Unauthorized(ServiceError):
    status, code, title = 401, "unauthorized", "Unauthorized"


class Forbidden(ServiceError):
    status, code, title = 403, "forbidden", "Forbidden"


class CheckpointRefused(ServiceError):
    status, code, title = 422, "checkpoint_refused", "Checkpoint refused"


class UnknownUser(ServiceError):
    status, code, title = 404, "unknown_user", "Unknown user"


class ReloadRunning(ServiceError):
    status, code, title = 409, "reload_running", "Reload running"


class NotFound(ServiceError):
    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ServiceError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"


class TooSlow(ServiceError):
    status, code, title = 408, "too_slow", "Too slow"


class TooLarge(ServiceError):
    status, code, title = 413, "too_large", "Too large"


class Refusal(StrEnum):
    """Why a request was not taken."""

    LATE = "late"
    """Those ahead of it take longer than its budget."""
    FULL = "full"
    """As many wait as may, and it is beyond its client's share."""
    USER = "user"
    """Too many requests of its user are in flight."""


class Overloaded(ServiceError):
    status, code, title = 429, "overloaded", "Overloaded"

    def __init__(self, detail: str, *, reason: Refusal, retry_after_s: int) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.reason = reason


class NotReady(ServiceError):
    status, code, title = 503, "not_ready", "Not ready"


class DeadlineExceeded(ServiceError):
    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"
