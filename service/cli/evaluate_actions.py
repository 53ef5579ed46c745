"""Owns `mfalcon evaluate-actions`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.spread import Spread
from service.cli.data import open_interactions
from service.cli.flags import FlagError
from service.cli.output import Output, machine_line, print_json, print_table, progress, say, where

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.evaluation.actions.contest import Contest


def evaluate_actions(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="checkpoint folder; several give their mean and spread")
    ],
    data: Annotated[str, typer.Option(help="what it was trained on: a file, or a public set")],
    num_targets: Annotated[
        int, typer.Option(min=1, help="last events of each user to predict the action of")
    ] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="default: what torch takes")] = None,
    output: Output = "table",
) -> None:
    """Compare the checkpoint's action predictions with baselines that learn from the same events.

    They are: a late head, which is an MLP over the network's last event row and the item and is
    trained on the network as it is; biases of user and item; the item's mean. All contenders are
    calibrated on the events that training held out before the last of each user.
    """
    import torch

    from model.allocator import keep_freed_memory
    from model.checkpoint import load
    from model.evaluation.actions.contest import contest

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    loaded = [load(folder) for folder in checkpoints]
    if len({checkpoint.config.actions for checkpoint in loaded}) > 1:
        raise FlagError("the checkpoints predict different actions; give those of one recipe")
    interactions = open_interactions(data)
    results = []
    with progress() as bar:
        task = bar.add_task("")
        for checkpoint in loaded:
            found = contest(
                checkpoint,
                interactions,
                num_targets,
                lambda what, done, total: bar.update(
                    task, description=what, completed=done, total=total
                ),
            )
            results.append(_result(checkpoint, Path(data).name, num_targets, found))
    if output == "json":
        print_json(results[0] if len(results) == 1 else {"runs": results})
    else:
        _print(results)


def _result(
    checkpoint: "Checkpoint", data: str, num_targets: int, found: "Contest"
) -> dict[str, Any]:
    return (
        {
            "checkpoint": checkpoint.name,
            "fingerprint": checkpoint.digests().fingerprint.hex(),
            "data": data,
            "num_targets": num_targets,
        }
        | asdict(found)
        | where()
    )


def _print(results: list[dict[str, Any]]) -> None:
    """One with its gaps' standard errors, several with what they differ by."""
    for result in results:
        say(
            f"{result['checkpoint']} on {result['data']}: {result['num_training']} training, "
            f"{result['num_validation']} validation events; {result['num_test']} test events of "
            f"{result['num_users']} users"
        )
    among = f"; mean ± sd of {len(results)} checkpoints" if len(results) > 1 else ""
    by_name = {
        name: [result["contenders"][name] for result in results]
        for name in results[0]["contenders"]
    }
    print_table(
        f"cross-entropy of the next event's action, nats{among}",
        ["", "", "candidate row is ahead by"],
        [
            [
                name,
                _figure([each["quality"]["cross_entropy"] for each in found]),
                _gap([each["entropy_gap"] for each in found]),
            ]
            for name, found in by_name.items()
        ],
    )
    for action in next(iter(by_name.values()))[0]["auc_gaps"]:
        print_table(
            f"{action}{among}",
            ["", "AUC", "candidate row is ahead by", "calibration error", "uncalibrated"],
            [_row(name, found, action) for name, found in by_name.items()],
        )
    say(machine_line())


def _row(name: str, found: list[dict[str, Any]], action: str) -> list[str]:
    after, before = (
        [each[which]["actions"][action] for each in found] for which in ("quality", "uncalibrated")
    )
    return [
        name,
        _figure([each["auc"] for each in after]),
        _gap([each["auc_gaps"][action] for each in found]),
        _figure([each["calibration_error"] for each in after]),
        _figure([each["calibration_error"] for each in before]),
    ]


def _figure(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return str(Spread.of(known)) if len(known) == len(values) else "-"


def _gap(found: list[dict[str, float] | None]) -> str:
    """Of the candidate row itself there is none."""
    known = [each for each in found if each and each["error"]]
    if len(known) < len(found):
        return ""
    if len(known) > 1:
        return str(Spread.of([each["value"] for each in known]))
    return f"{known[0]['value']:+.4f} ± {known[0]['error']:.4f}"
