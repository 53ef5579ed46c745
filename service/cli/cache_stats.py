"""Owns `mfalcon cache stats`: what a Redis store holds in sum. Never renews a state."""

from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from cache import Held, MemoryPolicy, RedisStore
from service.cli.opened_store import Store, store_settings, with_store
from service.cli.output import Output, note, print_json, print_table, progress, say


@dataclass(slots=True)
class _Sum:
    states: int = 0
    events: int = 0
    bytes: int = 0

    def add(self, held: Held) -> None:
        self.states += 1
        self.events += held.header.num_events
        self.bytes += held.num_bytes


def stats(
    store: Store = None,
    limit: Annotated[int, typer.Option(min=1, help="most states to look at")] = 100_000,
    output: Output = "table",
) -> None:
    """Count what a store holds, by model; and say what its servers do when they are full.

    Nothing is renewed: a state that nobody uses still expires.
    """
    found = with_store(store_settings(store), lambda opened: _count(opened, limit))
    if output == "json":
        print_json(found)
        return
    columns = ["fingerprint", "states", "events", "bytes"]
    rows = [[str(model[name]) for name in columns] for model in found["fingerprints"]]
    print_table("states by model", columns, rows)
    servers = [[str(value) for value in server.values()] for server in found["servers"]]
    print_table("servers", ["server", "maxmemory bytes", "policy"], servers)
    say(f"{found['states']} states of {found['keys']} keys, {found['bytes']} bytes")
    if not found["complete"]:
        note(f"stopped after {limit} states; --limit raises that")


async def _count(store: RedisStore, limit: int) -> dict[str, Any]:
    num_keys = await store.num_keys()
    policies = await store.memory_policies()
    models: dict[str, _Sum] = {}
    total, complete = _Sum(), True
    with progress() as bar:
        task = bar.add_task("states", total=min(num_keys, limit))
        async with aclosing(store.scan()) as states:
            async for held in states:
                if total.states == limit:
                    complete = False
                    break
                total.add(held)
                models.setdefault(held.key.fingerprint.hex(), _Sum()).add(held)
                bar.advance(task)
    return {
        "keys": num_keys,
        **asdict(total),
        "complete": complete,
        "fingerprints": [{"fingerprint": name, **asdict(models[name])} for name in sorted(models)],
        "servers": [_told(server, policies[server]) for server in sorted(policies)],
    }


def _told(server: str, policy: MemoryPolicy) -> dict[str, Any]:
    return {"server": server, "maxmemory_bytes": policy.max_bytes, "policy": policy.policy}
