"""`mfalcon warm`: what it warms and tells, and what it names when something is wrong."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from model.checkpoint import load, save
from service.cli.main import app
from tests.service.builders import make_events
from tests.service.handovers import add_events, make_new


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["warm", *arguments], env={"COLUMNS": "200"})


def test_the_command_warms_and_tells(folder: Path, redis_url: str, tmp_path: Path) -> None:
    new = make_new()
    save(new, tmp_path / "new")
    asyncio.run(add_events(folder, redis_url, {"a": make_events(3), "b": make_events(5, first=1)}))
    command = ["--checkpoint", str(tmp_path / "new"), "--from-checkpoint", str(folder)]
    command += ["--store", redis_url, "--users-per-second", "1000"]
    done = invoke(*command, "--output", "json")
    assert done.exit_code == 0, done.output
    old = load(folder).digests().fingerprint.hex()
    assert json.loads(done.stdout) == {
        "checkpoint": "tiny",
        "fingerprint": new.digests().fingerprint.hex(),
        "from_fingerprint": old,
        "users_seen": 2,
        "all_seen": True,
        "users": {"warmed": 2, "present": 0, "unknown": 0, "gone": 0, "busy": 0},
        "events": 7,
        "unknown_items": 1,
        "unknown_actions": 0,
        "other_models": {},
    }
    again = invoke(*command, "--max-users", "1")
    assert again.exit_code == 0, again.output
    assert "skipped: the new checkpoint has a state of them" in again.stdout
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    asyncio.run(add_events(tmp_path / "new", redis_url, {"a": make_events(3, first=20)}))
    none = invoke(*command, "--output", "json")
    assert (none.exit_code, json.loads(none.stdout)["users_seen"]) == (0, 0)
    assert f"no state of {old} is stored" in none.stderr
    bounded = invoke(*command, "--max-scanned", "1", "--output", "json")
    assert json.loads(bounded.stdout)["all_seen"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"--from-checkpoint": "NEW"}, "--from-checkpoint"),
        ({"--store": "ftp://somewhere"}, "--store"),
        ({"--store": "redis://h:port"}, "malformed Redis URL"),
        ({"--store": "memory"}, "lives inside the service"),
        ({"--store": "redis://127.0.0.1:1"}, "unavailable"),
        ({"--store-dtype": "int4"}, "store_dtype"),
        ({"--max-users": "0"}, "--max-users"),
        ({"--users-per-second": "0"}, "--users-per-second"),
        ({"--checkpoint": "/nowhere"}, "/nowhere"),
    ],
    ids=str,
)
def test_the_command_names_what_is_wrong(
    changes: dict[str, str], named: str, folder: Path, tmp_path: Path
) -> None:
    save(make_new(), tmp_path / "new")
    flags = {"--checkpoint": str(tmp_path / "new"), "--from-checkpoint": str(folder)}
    flags |= {"--store": "redis://127.0.0.1:1"} | changes
    values = [tmp_path / "new" if value == "NEW" else value for value in flags.values()]
    done = invoke(*(str(part) for pair in zip(flags, values, strict=True) for part in pair))
    assert (done.exit_code, done.stdout) == (2, "")
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
