"""Owns `mfalcon evaluate-actions`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.data import open_interactions
from service.cli.output import Output, machine_line, print_json, print_table, progress, say, where

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.evaluation.actions.contest import Contest


def evaluate_actions(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder")],
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
    loaded = load(checkpoint)
    interactions = open_interactions(data)
    with progress() as bar:
        task = bar.add_task("")
        found = contest(
            loaded,
            interactions,
            num_targets,
            lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
        )
    result = _result(loaded, Path(data).name, num_targets, found)
    if output == "json":
        print_json(result)
    else:
        _print(result)


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


def _print(result: dict[str, Any]) -> None:
    contenders = result["contenders"]
    say(
        f"{result['checkpoint']} on {result['data']}: {result['num_training']} training, "
        f"{result['num_validation']} validation events; {result['num_test']} test events of "
        f"{result['num_users']} users"
    )
    print_table(
        "cross-entropy of the next event's action, nats",
        ["", "", "candidate row is ahead by"],
        [
            [name, f"{each['quality']['cross_entropy']:.4f}", _gap(each["entropy_gap"])]
            for name, each in contenders.items()
        ],
    )
    for action in next(iter(contenders.values()))["auc_gaps"]:
        print_table(
            action,
            ["", "AUC", "candidate row is ahead by", "calibration error", "uncalibrated"],
            [_row(name, each, action) for name, each in contenders.items()],
        )
    say(machine_line())


def _row(name: str, contender: dict[str, Any], action: str) -> list[str]:
    found = contender["quality"]["actions"][action]
    before = contender["uncalibrated"]["actions"][action]["calibration_error"]
    auc = "-" if found["auc"] is None else f"{found['auc']:.4f}"
    gap = _gap(contender["auc_gaps"][action])
    return [name, auc, gap, f"{found['calibration_error']:.4f}", f"{before:.4f}"]


def _gap(found: dict[str, float] | None) -> str:
    """With its standard error; of the candidate row itself there is none."""
    return f"{found['value']:+.4f} ± {found['error']:.4f}" if found and found["error"] else ""
