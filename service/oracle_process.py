"""Owns asking the oracle in a process of its own, where it takes no time from requests.

Never computes. The process is started with the first question and holds its own copy of the
checkpoint, in float32 and on the CPU, whatever the service runs in.
"""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor, tensor

from model.history import History

_ANSWER_S: Final = 120.0
"""For a start, or an answer; at the lowest priority they take as long as requests leave them."""


class OracleUnavailable(Exception):
    """The oracle gave no answer; the message says why. A later question starts it again."""


class OracleProcess:
    """For one checkpoint; one question at a time."""

    def __init__(self, folder: Path, fingerprint: bytes) -> None:
        """`fingerprint`: of the checkpoint that `folder` was read from."""
        self._folder, self._fingerprint = folder, fingerprint
        self._process: Process | None = None

    async def score(
        self, history: History, request_time: int, candidates: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Retrieval logits (C,) and action logits (C, actions).

        Raises:
            OracleUnavailable: it did not start, ended, took too long, or has another checkpoint.
        """
        question = {
            "events": history.events,
            "request_time": request_time,
            "candidates": list(candidates),
        }
        try:
            async with asyncio.timeout(_ANSWER_S):
                process = self._process or await self._start()
                answer = await _ask(process, question)
        except (OSError, ValueError, TimeoutError, OracleUnavailable) as error:
            await self.close()
            raise OracleUnavailable(str(error) or f"no answer in {_ANSWER_S:.0f} s") from error
        return tensor(answer["retrieval"]), tensor(answer["actions"])

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _start(self) -> Process:
        # In a session of its own: Ctrl-C is for the service, which ends it.
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.oracle_worker", str(self._folder)),
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,
        )
        said = await _answer(process)
        if said["fingerprint"] != self._fingerprint.hex():
            raise OracleUnavailable(f"{self._folder} holds another checkpoint than the one served")
        return process


async def _ask(process: Process, question: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(question).encode() + b"\n")
    await process.stdin.drain()
    return await _answer(process)


async def _answer(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise OracleUnavailable("its process ended; what it said is above")
    answer: dict[str, Any] = json.loads(line)
    return answer
