"""Owns the case that needs a real service: ask over HTTP, kill it, start another, ask again.

Never reaches into the service. It listens on loopback and is ended by process id.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import httpx
import torch

from model.checkpoint import Checkpoint
from service.verification.cases import RightAnswer, largest
from service.verification.users import VerifiedUser

_START_S = 60.0


class ServiceDidNotStart(Exception):
    """The service under verification ended or stayed unready; the message has its last words."""


@contextlib.contextmanager
def running_service(checkpoint: Path, store: str) -> Iterator[httpx.Client]:
    """A `mfalcon serve` process; killed (SIGKILL) at the end, as a crash would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service", "serve", "--checkpoint", str(checkpoint)]
    command += ["--store", store, "--port", str(port), "--log-format", "json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MFALCON_")}
    # To a file: a pipe that nobody reads would hold the service up once it is full.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                _wait_until_ready(client, process, log)
                yield client
        finally:
            process.kill()
            process.wait()


def after_restart(
    path: Path,
    checkpoint: Checkpoint,
    store: str,
    users: Sequence[tuple[VerifiedUser, RightAnswer]],
) -> Iterator[float]:
    """Send each history in two parts, ask; kill the service; a new one must say the same."""
    with running_service(path, store) as client:
        for user, right in users:
            half = len(user.events) // 2
            _post(client, "/events", _events(checkpoint, user, 0, half))
            yield _ask(client, checkpoint, user, right, _events(checkpoint, user, half, None))
        for user, _ in users:
            # Answers come before the state is written; this waits for the write.
            client.get(f"/users/{user.user_id}/state")
    with running_service(path, store) as client:
        for user, right in users:
            yield _ask(client, checkpoint, user, right, {}, must_hit=bool(user.events))


def _ask(
    client: httpx.Client,
    checkpoint: Checkpoint,
    user: VerifiedUser,
    right: RightAnswer,
    events: dict[str, object],
    *,
    must_hit: bool = False,
) -> float:
    """Largest difference of retrieval logits and of action probabilities."""
    ids = [checkpoint.items.ids[candidate] for candidate in user.candidates]
    answer = _post(
        client,
        "/recommend",
        events
        | {
            "user_id": user.user_id,
            "candidates": ids,
            "num_results": len(ids),
            "exclude_seen": False,
            "request_time": user.request_time,
            "include": ["parts"],
        },
    )
    assert answer["complete"], answer["degraded"]
    assert not must_hit or answer["cache"]["status"] == "hit", "the restarted service lost a state"
    found = {item["item_id"]: item for item in answer["items"]}
    names = checkpoint.config.actions
    retrieval = torch.tensor([found[item_id]["retrieval_score"] for item_id in ids])
    actions = torch.tensor([[found[item_id]["actions"][name] for name in names] for item_id in ids])
    expected = checkpoint.network.action_probabilities(right.actions)
    return largest(retrieval - right.retrieval, actions - expected)


def _events(
    checkpoint: Checkpoint, user: VerifiedUser, start: int, stop: int | None
) -> dict[str, object]:
    ids, names = checkpoint.items.ids, checkpoint.config.actions
    events = [
        {
            "item_id": ids[event.item],
            "action": names[event.action - 1] if event.action else None,
            "timestamp": event.timestamp,
        }
        for event in user.events[start:stop]
    ]
    return {"user_id": user.user_id, "events": events}


def _post(client: httpx.Client, path: str, body: dict[str, object]) -> Any:
    response = client.post(path, json=body, timeout=30)
    response.raise_for_status()
    return response.json()


def _wait_until_ready(
    client: httpx.Client, process: subprocess.Popen[bytes], log: IO[bytes]
) -> None:
    give_up_s = time.monotonic() + _START_S
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            log.seek(0)
            raise ServiceDidNotStart(log.read().decode(errors="replace")[-2000:])
        with contextlib.suppress(httpx.TransportError):
            if client.get("/health/ready").status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise ServiceDidNotStart(f"not ready after {_START_S:.0f} s")
