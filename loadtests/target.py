"""Where a load may be pointed, and the key that it is let in by.

Owns the check of the address and the error of a target that is no good. Never sends anything, and
never shows the key.
"""

import os
from ipaddress import ip_address
from urllib.parse import urlsplit

KEY_VARIABLE = "MFALCON_LOAD_API_KEY"


class TargetError(ValueError):
    """Load must not be sent to the address, or no usable service answers there."""


def check_target(url: str, *, allow_remote: bool) -> str:
    """Return `url` without a trailing slash, or raise TargetError."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError as error:
        raise TargetError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetError(f"{url!r} is not a URL like http://127.0.0.1:8000")
    if not allow_remote and not is_loopback(parts.hostname):
        raise TargetError(
            f"{parts.hostname} is not a loopback host; a load test can take a service down, "
            "pass --allow-remote if this one is yours"
        )
    return url.rstrip("/")


def key_headers() -> dict[str, str]:
    """The API key of the environment, as the service takes it; nothing where none is set."""
    key = os.environ.get(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def is_loopback(hostname: str) -> bool:
    if hostname == "localhost":
        return True
    try:
        return ip_address(hostname).is_loopback
    except ValueError:
        return False  # a name could resolve to anywhere
