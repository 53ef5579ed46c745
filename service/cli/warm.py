"""Owns `mfalcon warm`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BaseModel, Field

from cache import Dtype, RedisStore
from service.cli.flags import FlagError, built, flags_of
from service.cli.opened_store import Store, store_settings, with_store
from service.cli.output import Output, note, print_json, print_table, progress

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from service.handover import Report, Survey


class Bounds(BaseModel):
    """How much is done, and how fast."""

    max_users: int = Field(default=10_000, ge=1, description="users to encode, the latest first")
    users_per_second: float = Field(default=50, gt=0, description="encoded at most")
    max_scanned: int = Field(
        default=1_000_000, ge=1, description="stored states looked at to find the latest users"
    )


@flags_of(Bounds, "given")
def warm(
    given: dict[str, Any],
    checkpoint: Annotated[Path, typer.Option(help="new checkpoint folder, soon to have traffic")],
    from_checkpoint: Annotated[Path, typer.Option(help="old one, whose states tell the events")],
    store: Store = None,
    store_dtype: Annotated[
        str | None, typer.Option(help="of the new states; left out: MFALCON_STORE_DTYPE")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu"], typer.Option(help="auto takes a GPU if there is one")
    ] = "auto",
    output: Output = "table",
) -> None:
    """Encode the users of an old checkpoint for a new one, before it takes traffic.

    The events come from the old states, which are left as they are. Users of whom the new
    checkpoint has a state are skipped, so a run that was stopped goes on when it is given again.
    """
    import torch

    from model.checkpoint import load
    from model.engine.engine import Engine
    from service.handover import Handover, survey
    from service.served_model import pick_device

    torch.set_num_threads(1)  # as the service runs, and beside it
    bounds = built(Bounds, given)
    settings = store_settings(store, store_dtype=store_dtype)
    old, new = load(from_checkpoint), load(checkpoint)
    if old.digests().fingerprint == new.digests().fingerprint:
        raise FlagError("--from-checkpoint: its states are those of --checkpoint, and fit already")
    engine = Engine(new.network, pick_device(device))

    async def work(opened: RedisStore) -> "tuple[Survey, Report]":
        found = await survey(
            opened,
            old.digests().fingerprint,
            max_users=bounds.max_users,
            max_scanned=bounds.max_scanned,
        )
        handover = Handover(old, new, engine, opened, Dtype.named(settings.store_dtype))
        with progress() as bar:
            task = bar.add_task("users", total=len(found.users))
            await handover.run(
                found.users, bounds.users_per_second, lambda done: bar.update(task, completed=done)
            )
        return found, handover.report

    found, report = with_store(settings, work)
    _tell(old, new, found, report, output)


def _tell(
    old: "Checkpoint", new: "Checkpoint", found: "Survey", report: "Report", output: str
) -> None:
    from service.handover import Outcome

    fingerprint = old.digests().fingerprint.hex()
    result: dict[str, Any] = {
        "checkpoint": new.name,
        "fingerprint": new.digests().fingerprint.hex(),
        "from_fingerprint": fingerprint,
        "users_seen": found.num_states,
        "all_seen": found.complete,
        "users": {outcome.name.lower(): report.outcomes[outcome] for outcome in Outcome},
        "events": report.events,
        "unknown_items": report.unknown_items,
        "unknown_actions": report.unknown_actions,
        "other_models": dict(found.others),
    }
    if not found.num_states and found.others:
        others = ", ".join(f"{count} of {model}" for model, count in found.others.items())
        note(f"no state of {fingerprint} is stored, but {others}; check --from-checkpoint")
    if not found.complete:
        note("not all stored states were looked at; raise --max-scanned for the latest users")
    if output == "json":
        print_json(result)
        return
    facts = {
        "users of the old checkpoint seen": found.num_states,
        "warmed": report.outcomes[Outcome.WARMED],
    }
    facts |= {f"skipped: {o}": report.outcomes[o] for o in Outcome if o is not Outcome.WARMED}
    facts |= {
        "events encoded": report.events,
        "events left out, their item is unknown": report.unknown_items,
        "events that lost an action, it is unknown": report.unknown_actions,
    }
    print_table(
        f"{new.name} from {old.name}", ["", "count"], [[name, str(n)] for name, n in facts.items()]
    )
