"""The same events, evaluated by `mfalcon evaluate` from the checkpoint itself.

Owns starting it, and which of its switches describe a replay. Never computes a figure.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.replay.log import LogError, write_subset

# What a service does: it leaves out what it sees of the history, ranks the whole catalogue, and
# takes tied events in the order in which they arrive.
_PROTOCOL = ("--protocol", "rectools", "--mask", "window", "--candidates", "listed")
_LAST_WORDS = 400


@dataclass(frozen=True, slots=True)
class Offline:
    """Its figures."""

    fingerprint: str
    hit_rate: float
    gain: float
    num_targets: int
    calibration_error: dict[str, float]  # by action


def evaluate(checkpoint: Path, data: Path, users: tuple[str, ...], num_last: int) -> Offline:
    """
    Raises:
        LogError: it failed; the message is its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        subset = Path(folder, "subset.zip")
        write_subset(data, users, subset)
        command = [sys.executable, "-m", "service", "evaluate", str(checkpoint)]
        command += ["--data", str(subset), "--num-targets", f"{num_last}", "--output", "json"]
        done = subprocess.run([*command, *_PROTOCOL], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LogError(f"mfalcon evaluate failed: {done.stderr.strip()[-_LAST_WORDS:]}")
    return _read(json.loads(done.stdout))


def _read(told: dict[str, Any]) -> Offline:
    return Offline(
        fingerprint=told["fingerprint"],
        hit_rate=told["metrics"]["HR@10"],
        gain=told["metrics"]["NDCG@10"],
        num_targets=told["targets"],
        calibration_error={
            action: quality["calibration_error"]
            for task in told["actions"].values()
            for action, quality in task["actions"].items()
        },
    )
