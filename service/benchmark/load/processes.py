"""Owns the services under load: processes on a free port of loopback, with a checkpoint made up.

Never reaches beyond this machine.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import torch

from model.checkpoint import Checkpoint, load, save
from model.items import Items
from model.network.hstu import HSTU
from service.benchmark.load.traffic import Plan
from service.benchmark.shapes import Shape
from service.benchmark.worker import Worker, worker

_START_S = 60.0
_END_S = 30.0
_LOG_BYTES = 2000


@contextmanager
def made_up_checkpoint(shape: Shape, seed: int) -> Iterator[Path]:
    """A folder with random weights: speed does not depend on them, and scores must agree for any.

    The window holds twice the shape's events: in turns of seconds it does not move.
    """
    torch.manual_seed(seed)
    network = HSTU(shape.config())
    items = Items([{"item_id": f"item-{index}"} for index in range(network.config.num_items)])
    with tempfile.TemporaryDirectory(prefix="mfalcon-bench-") as folder:
        path = Path(folder) / shape.name
        save(Checkpoint(shape.name, network, items), path)
        yield path


@contextmanager
def mfalcon(checkpoint: Path, flags: Sequence[str]) -> Iterator[int]:
    """The port of a running `mfalcon serve`."""
    with mfalcon_process(checkpoint, flags) as (port, _):
        yield port


@contextmanager
def mfalcon_process(checkpoint: Path, flags: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The port and the process id of a running `mfalcon serve`."""
    port = _free_port()
    command = ["service", "serve", "--checkpoint", str(checkpoint), "--log-format", "console"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--drain-delay-s", "0"]
    with _running([*command, *flags], port) as process_id:
        yield port, process_id


def recompute(checkpoint: Path, threads: int) -> AbstractContextManager[int]:
    """The port of a running service that recomputes each request."""
    return _app("recompute_app", checkpoint, threads)


def bare(checkpoint: Path, threads: int) -> AbstractContextManager[int]:
    """The port of the barest service around the engine, running."""
    return _app("bare_app", checkpoint, threads)


@contextmanager
def refuser() -> Iterator[int]:
    """The port of a running process that refuses all that it is asked."""
    port = _free_port()
    with _running(["service.benchmark.load.refuser", str(port)], port):
        yield port


@contextmanager
def client_of(port: int, checkpoint: Path, plan: Plan) -> Iterator[Worker]:
    """A client of the service on `port`, which knows the histories of the plan's users by then."""
    loaded = load(checkpoint)
    names = {"items": loaded.items.ids, "actions": (None, *loaded.config.actions)}
    with worker("service.benchmark.load.client", str(port)) as client:
        client.ask({"plan": plan.as_json(), "names": names})
        yield client


@contextmanager
def _app(name: str, checkpoint: Path, threads: int) -> Iterator[int]:
    port = _free_port()
    module = f"service.benchmark.load.{name}"
    with _running([module, str(checkpoint), str(port), str(threads)], port):
        yield port


@contextmanager
def _running(arguments: Sequence[str], port: int) -> Iterator[int]:
    """`python -m` these, from when it is ready until the end; the process id.

    Raises:
        RuntimeError: it did not become ready; with the end of its log.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MFALCON_")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=log, stderr=log, env=environment
        )
        try:
            if not _becomes_ready(process, port):
                log.seek(0)
                end = log.read()[-_LOG_BYTES:].decode(errors="replace")
                raise RuntimeError(f"{arguments[0]} did not start: {end}")
            yield process.pid
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
            process.kill()
            process.wait()


def _becomes_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    give_up_s = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < give_up_s:
        with contextlib.suppress(httpx.TransportError):
            # The environment's proxies would answer for a service that is not there yet.
            answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False)
            if answer.status_code == httpx.codes.OK:
                return True
        time.sleep(0.05)
    return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
