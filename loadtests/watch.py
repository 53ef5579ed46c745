"""What the system says of a process under load, once a second.

Owns finding the process that listens on a port, and reading its memory, files and threads.
Never asks the process itself: what it would have to count is what is measured.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import psutil

from loadtests.record import EVERY_S, Reading, Recorder
from loadtests.stability import PROCESS
from loadtests.target import is_loopback


def listener_pid(host: str) -> int | None:
    """Who listens at the URL on this machine; None if that is not to be seen."""
    parts = urlsplit(host)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if not is_loopback(parts.hostname or ""):
        return None
    try:
        found = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS tells root alone
        return None
    listening = (each for each in found if each.status == psutil.CONN_LISTEN)
    return next((each.pid for each in listening if each.laddr.port == port and each.pid), None)


def read(pid: int, process: str, at_s: float) -> Reading | None:
    """None once the process has gone."""
    try:
        found = psutil.Process(pid)
        with found.oneshot():
            times = found.cpu_times()
            return Reading(
                at_s=at_s,
                process=process,
                resident_bytes=found.memory_info().rss,
                num_files=found.num_fds(),
                num_threads=found.num_threads(),
                cpu_s=times.user + times.system,
            )
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


async def watch(processes: dict[str, int], recorder: Recorder, began_s: float) -> None:
    """Read them all until cancelled. `processes` are pids by name, and may change meanwhile.

    `began_s`: the run's beginning, of `time.perf_counter`.
    """
    while True:
        for name, pid in list(processes.items()):
            reading = read(pid, name, time.perf_counter() - began_s)
            if reading is not None:
                recorder.reading(reading)
        await asyncio.sleep(EVERY_S)


@asynccontextmanager
async def watching(host: str, recorder: Recorder, began_s: float) -> AsyncIterator[None]:
    """The service at a URL, until the end of the block, where it runs on this machine."""
    pid = listener_pid(host)
    task = asyncio.create_task(watch({PROCESS: pid} if pid else {}, recorder, began_s))
    try:
        yield
    finally:
        task.cancel()
