"""Owns `mfalcon calibrate`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.data import open_interactions
from service.cli.output import (
    Output,
    machine_line,
    note,
    print_json,
    print_table,
    progress,
    say,
    where,
)

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.evaluation.calibrate import Calibrated


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder")],
    data: Annotated[str, typer.Option(help="what it was trained on: a file, or a public set")],
    out: Annotated[
        Path, typer.Option(help="checkpoint folder to write; may be the one that is calibrated")
    ],
    num_targets: Annotated[
        int, typer.Option(min=1, help="last events of each user to judge by, never to fit to")
    ] = 1,
    reliability: Annotated[
        Path | None,
        typer.Option(help="draw predicted against observed actions before and after, a PNG"),
    ] = None,
    output: Output = "table",
) -> None:
    """Fit action probabilities to what happened at events that training held out.

    Those are the events before the last of each user that training has not seen; the last ones
    judge what came of it. A task gets a temperature and a bias for each action. The fingerprint
    stays, and with it the states that are stored.
    """

    from model.allocator import keep_freed_memory
    from model.checkpoint import Checkpoint, load, save
    from model.evaluation.calibrate import calibrate as run
    from model.evaluation.reliability import draw

    keep_freed_memory()
    loaded = load(checkpoint)
    interactions = open_interactions(data)
    with progress() as bar:
        task = bar.add_task("events")
        found = run(
            loaded,
            interactions,
            num_targets,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if reliability:
        draw({"before": found.before, "after": found.after}, reliability)
    fitted_to = {"data": Path(data).name, "events": found.num_events, "users": found.num_users}
    loaded.network.calibration = found.calibration
    record = loaded.training | {"calibration": fitted_to}
    made = Checkpoint(loaded.name, loaded.network, loaded.items, record)
    save(made, out)
    note(f"wrote {out}")
    result = _result(made, fitted_to, found)
    if output == "json":
        print_json(result)
    else:
        _print(result)


def _result(
    checkpoint: "Checkpoint", fitted_to: dict[str, Any], found: "Calibrated"
) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint.name,
        "fingerprint": checkpoint.digests().fingerprint.hex(),
        "fitted_to": fitted_to,
        "calibration": found.calibration.model_dump(),
        "before": {name: asdict(quality) for name, quality in found.before.items()},
        "after": {name: asdict(quality) for name, quality in found.after.items()},
    } | where()


def _print(result: dict[str, Any]) -> None:
    fitted_to, calibration = result["fitted_to"], result["calibration"]
    numbers = iter(zip(calibration["scale"], calibration["bias"], strict=True))
    for task, before in result["before"].items():
        after = result["after"][task]
        rows = []
        for name, was in before["actions"].items():
            scale, bias = next(numbers)
            errors = (was["calibration_error"], after["actions"][name]["calibration_error"])
            rows.append([name, f"{scale:.3f}", f"{bias:+.3f}", *(f"{e:.4f}" for e in errors)])
        entropies = (before["cross_entropy"], after["cross_entropy"])
        rows.append(["cross-entropy, nats", "", "", *(f"{e:.4f}" for e in entropies)])
        print_table(
            f"{task}: fitted to {fitted_to['events']} events of {fitted_to['users']} users, judged "
            f"by {before['num_events']} others",
            ["calibration error", "scale", "bias", "before", "after"],
            rows,
        )
    say(machine_line())
