"""Owns a contender in a process of its own, which does what it is told, one message at a time.

A message is a JSON object on a line. A contender that is not asked waits and takes no time.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Worker:
    """A running contender."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, message: object) -> Any:
        """
        Raises:
            RuntimeError: the process has ended; what it said went to standard error.
        """
        self.tell(message)
        return self.answer()

    def tell(self, message: object) -> None:
        """Without waiting for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What it says next; raises as `ask` does."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a contender ended early; what it said is above")
        return json.loads(line)


@contextmanager
def worker(module: str, *arguments: str) -> Iterator[Worker]:
    """`python -m module`; it is ended at the end."""
    command: Sequence[str] = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()
