import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from loadtests.port import free_port
from loadtests.record import Record, Recorder, Run
from loadtests.watch import listener_pid, read, watch


def test_who_listens_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert listener_pid(url) == os.getpid()
    assert listener_pid(f"http://127.0.0.1:{free_port()}") is None


def test_a_process_that_is_gone_has_no_reading() -> None:
    assert read(2**22 + 1, "service", 0.0) is None


@pytest.mark.anyio
async def test_processes_are_read_until_told_to_stop(tmp_path: Path) -> None:
    recorder = Recorder.begin(tmp_path, Run(title="t", command="c", began=0.0))
    watching = asyncio.create_task(watch({"service": os.getpid()}, recorder, time.perf_counter()))
    await asyncio.sleep(0)
    watching.cancel()
    recorder.close()
    (reading,) = Record.load(tmp_path).readings
    assert reading.process == "service"
    assert reading.resident_bytes > 1 << 20
    assert min(reading.num_files, reading.num_threads) >= 1
    assert reading.cpu_s > 0
