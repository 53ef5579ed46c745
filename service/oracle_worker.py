"""Owns the process that the oracle runs in: `python -m service.oracle_worker CHECKPOINT`.

Never in anybody's way: one thread, and the lowest priority there is. A message is a JSON object on
a line; it says its checkpoint's fingerprint first, then answers questions until there are no more.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import Checkpoint, load
from model.engine.oracle import Oracle
from model.history import Event, History

_LOWEST_PRIORITY = 19


def main() -> None:
    os.nice(_LOWEST_PRIORITY)
    torch.set_num_threads(1)
    checkpoint = load(Path(sys.argv[1]))
    fingerprint = checkpoint.digests().fingerprint.hex()
    checkpoint.network.double()  # its own rounding would be taken for the service's
    _say({"fingerprint": fingerprint})
    for line in sys.stdin:
        _say(_answer(checkpoint, json.loads(line)))


def _answer(checkpoint: Checkpoint, question: dict[str, Any]) -> dict[str, Any]:
    history = History.of(Event(*event) for event in question["events"])
    oracle = Oracle(checkpoint.network, history, question["request_time"])
    scores = [oracle.score(candidate) for candidate in question["candidates"]]
    return {
        "retrieval": [float(score.retrieval) for score in scores],
        "actions": [score.actions.tolist() for score in scores],
    }


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
