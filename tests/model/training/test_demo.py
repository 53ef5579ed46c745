"""Demo histories: the last events of real users, as bodies of `POST /events`."""

import json
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint
from model.data.interactions import Interactions
from model.history import Event
from model.network.hstu import HSTU
from model.training.demo import FILE, write_demo_histories
from tests.model.builders import NUM_ITEMS, random_events, tiny_config
from tests.model.training.data import interactions_of


def acted(count: int, seed: int) -> list[Event]:
    return [event._replace(action=1 + event.item % 3) for event in random_events(count, seed=seed)]


USERS = [acted(length, length) for length in (5, 230, 12, 0, 45, 23, 90)]


def demo(folder: Path, data: Interactions, count: int) -> list[dict[str, Any]]:
    checkpoint = Checkpoint("tiny", HSTU(tiny_config()), data.items)
    write_demo_histories(data, checkpoint, folder, count)
    bodies: list[dict[str, Any]] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return bodies


def test_histories_are_the_last_events_of_users(tmp_path: Path) -> None:
    data = interactions_of(USERS, NUM_ITEMS)
    bodies = demo(tmp_path, data, 8)
    lengths = [10, 20, 40, 80, 120, 160, 200, 10]
    assert [len(body["events"]) for body in bodies] == lengths
    names = tiny_config().actions
    endings = [
        [
            {
                "item_id": data.items.ids[event.item],
                "action": names[event.action - 1],
                "timestamp": event.timestamp,
            }
            for event in user
        ]
        for user in USERS
    ]
    for body, length in zip(bodies, lengths, strict=True):
        assert body["events"] in [user[-length:] for user in endings if len(user) >= length]


def test_users_are_pseudonymous_and_the_file_is_always_the_same(tmp_path: Path) -> None:
    data = interactions_of(USERS, NUM_ITEMS)
    bodies = demo(tmp_path, data, 3)
    assert [body["user_id"] for body in bodies] == ["demo-1", "demo-2", "demo-3"]
    assert all(set(body) == {"user_id", "events"} for body in bodies)
    assert demo(tmp_path, data, 3) == bodies


def test_data_of_short_histories_has_demo_histories_too(tmp_path: Path) -> None:
    bodies = demo(tmp_path, interactions_of(USERS[:1], NUM_ITEMS), 2)
    assert [len(body["events"]) for body in bodies] == [5, 5]
