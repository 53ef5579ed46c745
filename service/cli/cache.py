"""Owns `mfalcon cache`: looking into a Redis store, and forgetting a user. Never writes a state."""

from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cache import Held, RedisStore, StateKey
from service.cli.opened_store import Store, store_url, with_store
from service.cli.output import Output, note, print_json, print_table, progress, say
from service.settings import mask_url

User = Annotated[str, typer.Argument(help="user id", show_default=False)]
_COLUMNS = ["user", "fingerprint", "events", "bytes", "expires in s"]


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
    found = with_store(store, lambda opened: _count(opened, limit))
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


def ls(
    store: Store = None,
    limit: Annotated[int, typer.Option(min=1, help="most states to list")] = 100,
    output: Output = "table",
) -> None:
    """List states, in no order: whose, of which model, how large, how long they stay."""

    async def listed(opened: RedisStore) -> list[Held]:
        found: list[Held] = []
        async with aclosing(opened.scan()) as states:
            async for held in states:
                found.append(held)
                if len(found) == limit:
                    break
        return found

    found = with_store(store, listed)
    if output == "json":
        print_json({"states": [_brief(held) for held in found]})
        return
    print_table("states", _COLUMNS, [_row(held) for held in found])


def get(
    user: User,
    store: Store = None,
    events: Annotated[
        Path | None,
        typer.Option(
            help="checkpoint folder: print the events of its state too, which counts as a use of it"
        ),
    ] = None,
    output: Output = "table",
) -> None:
    """Show what a store holds of one user, under every model; exit 1 if it holds nothing."""

    async def looked(opened: RedisStore) -> dict[str, Any]:
        states = [_detailed(held) async for held in opened.scan(user)]
        result: dict[str, Any] = {"user_id": user, "states": states}
        if events is not None:
            result["events"] = await _events(opened, user, events)
        return result

    found = with_store(store, looked)
    if output == "json":
        print_json(found)
    else:
        for state in found["states"]:
            rows = [[name, str(value)] for name, value in state.items()]
            print_table(str(state["fingerprint"]), ["", "value"], rows)
        if found.get("events") is not None:
            rows = [[escape(str(value)) for value in event.values()] for event in found["events"]]
            print_table("events", ["item_id", "action", "timestamp"], rows)
    if not found["states"]:
        note("nothing is held of this user")
        raise typer.Exit(1)


def rm(
    user: User,
    store: Store = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    output: Output = "table",
) -> None:
    """Forget a user under every model, as DELETE /users/{user_id}/state does."""

    async def forgot(opened: RedisStore) -> bool:
        # Whichever the model: the user's states all go.
        return await opened.delete(StateKey(user, bytes(16)))

    if not yes:
        typer.confirm(
            f"Forget all that {mask_url(store_url(store))} holds of this user?", abort=True
        )
    deleted = with_store(store, forgot)
    if output == "json":
        print_json({"user_id": user, "deleted": deleted})
    else:
        say("forgotten" if deleted else "nothing was held of this user")


async def _count(store: RedisStore, limit: int) -> dict[str, Any]:
    num_keys = await store.num_keys()
    policies = await store.memory_policies()
    models: dict[str, _Sum] = {}
    all_of_them, complete = _Sum(), True
    with progress() as bar:
        task = bar.add_task("states", total=min(num_keys, limit))
        async with aclosing(store.scan()) as states:
            async for held in states:
                if all_of_them.states == limit:
                    complete = False
                    break
                all_of_them.add(held)
                models.setdefault(held.key.fingerprint.hex(), _Sum()).add(held)
                bar.advance(task)
    return {
        "keys": num_keys,
        "states": all_of_them.states,
        "events": all_of_them.events,
        "bytes": all_of_them.bytes,
        "complete": complete,
        "fingerprints": [
            {"fingerprint": name, "states": m.states, "events": m.events, "bytes": m.bytes}
            for name, m in sorted(models.items())
        ],
        "servers": [
            {"server": server, "maxmemory_bytes": policy.max_bytes, "policy": policy.policy}
            for server, policy in sorted(policies.items())
        ],
    }


async def _events(store: RedisStore, user: str, folder: Path) -> list[dict[str, Any]] | None:
    """Of the state that the checkpoint wrote; None if there is none."""
    from model.checkpoint import load
    from model.kernels.pages import PagePool
    from service.codec import StateCodec

    checkpoint = load(folder)
    fingerprint = checkpoint.digests().fingerprint
    codec = StateCodec(checkpoint.config, fingerprint, PagePool(checkpoint.config))
    entry = await store.get(codec.key(user))
    stored = None if entry is None else codec.decode(entry)
    if stored is None:
        return None
    ids, actions = checkpoint.items.ids, (None, *checkpoint.config.actions)
    return [
        {"item_id": ids[e.item], "action": actions[e.action], "timestamp": e.timestamp}
        for e in stored.state.history.events
    ]


def _brief(held: Held) -> dict[str, Any]:
    return {
        "user_id": held.key.user_id,
        "fingerprint": held.key.fingerprint.hex(),
        "events": held.header.num_events,
        "bytes": held.num_bytes,
        "expires_in_s": held.ttl_s,
    }


def _row(held: Held) -> list[str]:
    # A user id may hold what a table takes for its own marks.
    return [escape(str(value)) for value in _brief(held).values()]


def _detailed(held: Held) -> dict[str, Any]:
    header = held.header
    brief = _brief(held)
    del brief["user_id"]
    return brief | {
        "version": header.version,
        "anchor": header.anchor,
        "final_rows": header.num_final,
        "dtype": header.dtype.label,
        "layers": header.num_layers,
        "heads": header.num_heads,
        "qk_dim": header.qk_dim,
        "v_dim": header.v_dim,
        "prefix_hash": header.prefix_hash.hex(),
    }
