"""Owns whether requests are traced: if the standard OTEL_* variables say where to, and the `otel`
extra is installed. Never imports OpenTelemetry otherwise.
"""

import os
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from service.otel import Tracing

_log = structlog.get_logger("mfalcon.tracing")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def from_environment() -> "Tracing | None":
    """None, with a warning, if the extra is asked for and not there."""
    is_off = (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
    )
    asked = [name for name in _ENDPOINTS if os.environ.get(name)]
    if is_off or not asked:
        return None
    try:
        from service.otel import Tracing

        return Tracing.over_http()
    except ImportError as error:
        detail = f"{asked[0]} is set, but {error}: pip install 'mfalcon[otel]'"
        _log.warning("tracing_unavailable", detail=detail)
        return None
