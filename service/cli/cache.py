"""Owns `mfalcon cache ls|get|rm`: one state or another in a Redis store. Never writes a state."""

from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from cache import Held, RedisStore
from service.cli.opened_store import Store, store_settings, with_store
from service.cli.output import Output, note, print_json, print_table, say
from service.configuration import mask_url

User = Annotated[str, typer.Argument(help="user id", show_default=False)]
_COLUMNS = ["user", "fingerprint", "events", "bytes", "expires in s"]


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

    found = with_store(store_settings(store), listed)
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

    found = with_store(store_settings(store), looked)
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

    settings = store_settings(store)
    if not yes:
        typer.confirm(f"Forget all that {mask_url(settings.store)} holds of this user?", abort=True)
    deleted = with_store(settings, lambda opened: opened.forget(user))
    if output == "json":
        print_json({"user_id": user, "deleted": deleted})
    else:
        say("forgotten" if deleted else "nothing was held of this user")


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
