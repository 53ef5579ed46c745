"""Owns `python -m loadtests` as a process: Locust patches the one that imports it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STRICT = [sys.executable, "-W", "error"]


def run(*arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STRICT, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s
    )
