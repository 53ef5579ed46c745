"""`mfalcon cache`: what a store holds, of whom, until when; and forgetting a user."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner, Result

from cache import HEADER_BYTES
from model.checkpoint import Checkpoint
from service.cli.main import app
from tests.redis_topologies import cluster, sentinel_pair
from tests.service.builders import JSON, make_events, serving, write_checkpoint

USERS = {"u": 5, "[red]": 3, "a b": 20}


@pytest.fixture
def filled(folder: Path, redis_url: str) -> str:
    """The URL of a store that holds `USERS` under one model, and "u" under another too."""
    asyncio.run(fill(redis_url, folder, USERS))
    return redis_url


async def fill(url: str, folder: Path, users: dict[str, int]) -> None:
    async with serving(folder, store=url, store_timeout_ms=10_000) as service:
        for user_id, count in users.items():
            assert (await service.add_events(make_events(count), user_id=user_id))["stored"]


@pytest.fixture(autouse=True)
def no_store_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MFALCON_STORE", raising=False)


def invoke(*arguments: str, store: str = "", typed: str | None = None) -> Result:
    more = ["--store", store] if store else []
    return CliRunner().invoke(app, ["cache", *arguments, *more], typed, env={"COLUMNS": "300"})


def asked(*arguments: str, store: str = "") -> JSON:
    done = invoke(*arguments, "--output", "json", store=store)
    assert done.exit_code == 0, done.output
    result: JSON = json.loads(done.stdout)
    return result


def test_stats_add_up_by_model(filled: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", seed=7)
    asyncio.run(fill(filled, other, {"u": 2}))
    with redis.Redis.from_url(filled) as client:
        client.set("other", "x")
    found = asked("stats", store=filled)
    row_bytes = 16 + 4 * 2 * 2 * (4 + 6)
    mine = {
        "fingerprint": checkpoint.digests().fingerprint.hex(),
        "states": 3,
        "events": 5 + 3 + 8,
        "bytes": 3 * (HEADER_BYTES + 16) + (4 + 2 + 7) * row_bytes,
    }
    assert mine in found["fingerprints"]
    assert [model["states"] for model in found["fingerprints"]] in ([1, 3], [3, 1])
    assert (found["keys"], found["states"], found["complete"]) == (5, 4, True)
    assert found["bytes"] == sum(model["bytes"] for model in found["fingerprints"])
    (server,) = found["servers"]
    assert set(server) == {"server", "maxmemory_bytes", "policy"}


def test_stats_stop_at_their_bound(filled: str) -> None:
    found = asked("stats", "--limit", "2", store=filled)
    assert (found["states"], found["complete"], found["keys"]) == (2, False, 3)
    assert asked("stats", "--limit", "3", store=filled)["complete"] is True
    assert "--limit" in invoke("stats", "--limit", "2", store=filled).stderr


def test_ls_lists_whose_states_and_until_when(filled: str, checkpoint: Checkpoint) -> None:
    states = {state["user_id"]: state for state in asked("ls", store=filled)["states"]}
    assert {user: state["events"] for user, state in states.items()} == USERS | {"a b": 8}
    assert states["u"]["fingerprint"] == checkpoint.digests().fingerprint.hex()
    assert 0 < states["u"]["expires_in_s"] <= 7 * 86_400
    assert len(asked("ls", "--limit", "2", store=filled)["states"]) == 2
    table = invoke("ls", store=filled).stdout
    assert all(user in table for user in USERS)


def test_get_shows_one_user_and_events_only_where_asked_for(filled: str, folder: Path) -> None:
    found = asked("get", "u", store=filled)
    (state,) = found["states"]
    assert (state["events"], state["final_rows"], state["version"]) == (5, 4, 1)
    assert (state["dtype"], state["layers"]) == ("float32", 2)
    assert "i7" not in json.dumps(found)
    found = asked("get", "u", "--events", str(folder), store=filled)
    assert found["events"] == make_events(5)
    for item in ("i0", "i7"):
        assert item not in invoke("get", "u", store=filled).stdout
        assert item in invoke("get", "u", "--events", str(folder), store=filled).stdout


def test_get_of_nobody_exits_1(filled: str) -> None:
    done = invoke("get", "nobody", "--output", "json", store=filled)
    assert (done.exit_code, json.loads(done.stdout)["states"]) == (1, [])


def test_events_of_another_model_are_not_shown(filled: str, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", seed=7)
    assert asked("get", "u", "--events", str(other), store=filled)["events"] is None


def test_looking_renews_nothing(filled: str) -> None:
    with redis.Redis.from_url(filled) as client:
        for name in client.scan_iter():
            client.expire(name, 500)
        for command in (["stats"], ["ls"], ["get", "u"]):
            asked(*command, store=filled)
        assert all(0 < client.ttl(name) <= 500 for name in client.scan_iter())


def test_rm_forgets_one_user_under_every_model(filled: str, tmp_path: Path) -> None:
    asyncio.run(fill(filled, write_checkpoint(tmp_path / "other", seed=7), {"u": 2}))
    assert asked("rm", "u", "--yes", store=filled) == {"user_id": "u", "deleted": True}
    assert asked("rm", "u", "--yes", store=filled) == {"user_id": "u", "deleted": False}
    states = asked("ls", store=filled)["states"]
    assert sorted(state["user_id"] for state in states) == ["[red]", "a b"]


@pytest.mark.parametrize(("typed", "code", "left"), [("y\n", 0, 2), ("n\n", 1, 3), ("", 1, 3)])
def test_rm_asks_first(filled: str, typed: str, code: int, left: int) -> None:
    done = invoke("rm", "u", store=filled, typed=typed)
    assert done.exit_code == code
    assert len(asked("ls", store=filled)["states"]) == left


def test_every_way_to_reach_a_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(3) as nodes, sentinel_pair() as pair:
        socket = f"unix://{pair.primary.socket_path}"
        users = {f"user {number}": 2 for number in range(12)}
        for url in (nodes.url, pair.url):
            asyncio.run(fill(url, folder, users))
        for url, num_servers in ((nodes.url, 3), (pair.url, 1), (socket, 1)):
            found = asked("stats", store=url)
            assert (found["states"], len(found["servers"])) == (12, num_servers)
            assert len(asked("get", "user 3", store=url)["states"]) == 1
            assert len(asked("ls", store=url)["states"]) == 12
        assert asked("rm", "user 3", "--yes", store=nodes.url)["deleted"] is True
        monkeypatch.setenv("MFALCON_STORE", nodes.url)
        assert len(asked("ls")["states"]) == 11


def test_a_store_that_is_given_stands_for_one_in_the_environment(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MFALCON_STORE", "ftp://nowhere")
    assert len(asked("ls", store=filled)["states"]) == len(USERS)


@pytest.mark.parametrize(
    ("store", "named"),
    [
        ("", "MFALCON_STORE"),
        ("memory", "MFALCON_STORE"),
        ("ftp://x", "MFALCON_STORE"),
        ("redis://a,b", "MFALCON_STORE"),
        ("redis://somebody:hush@127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_a_store_that_can_not_be_asked_exits_2(store: str, named: str) -> None:
    commands: list[list[Any]] = [["stats"], ["ls"], ["get", "u"], ["rm", "u", "--yes"]]
    for command in commands:
        done = invoke(*command, store=store)
        assert (done.exit_code, done.stdout) == (2, "")
        assert named in done.stderr
        assert "hush" not in done.stderr
        assert "Traceback" not in done.stderr
