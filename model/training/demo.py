"""Owns the demo histories beside a checkpoint: a few real users, ready to send to the service."""

import json
from pathlib import Path

from model.checkpoint import Checkpoint
from model.data.interactions import Interactions

FILE = "histories.json"
_LENGTHS = (10, 20, 40, 80, 120, 160, 200)


def write_demo_histories(
    data: Interactions, checkpoint: Checkpoint, folder: Path, count: int
) -> None:
    """Users of varied length, their last events, as bodies of `POST /events`; pseudonymous ids."""
    lengths = data.lengths()
    bodies = []
    for number in range(count):
        wanted = min(_LENGTHS[number % len(_LENGTHS)], int(lengths.max()))
        longer = (lengths >= wanted).nonzero().flatten()
        user = int(longer[(number * 37) % len(longer)])
        events = [
            {
                "item_id": data.items.ids[event.item],
                "action": checkpoint.config.actions[event.action - 1] if event.action else None,
                "timestamp": event.timestamp,
            }
            for event in data.history(user, -wanted).events
        ]
        bodies.append({"user_id": f"demo-{number + 1}", "events": events})
    lines = ",\n".join(json.dumps(body, separators=(",", ":")) for body in bodies)
    (folder / FILE).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
