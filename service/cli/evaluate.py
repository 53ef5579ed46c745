"""Owns `mfalcon evaluate`. A protocol's switches are flags, the fields of `Protocol`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.evaluation.protocols import PROTOCOLS, Protocol
from service.cli.data import open_interactions
from service.cli.flags import FlagError, built, flags_of
from service.cli.output import Output, print_json, print_table, progress, where

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.evaluation.evaluate import Evaluation


@flags_of(Protocol, "switched")
def evaluate(
    switched: dict[str, Any],
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder")],
    data: Annotated[str, typer.Option(help="a file, or the name of a public set")],
    protocol: Annotated[str, typer.Option(help="meta, tf, rectools or genrec")] = "rectools",
    reliability: Annotated[
        Path | None, typer.Option(help="draw predicted against observed actions, a PNG")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="default: what torch takes")] = None,
    output: Output = "table",
) -> None:
    """Predict each user's last event under a published protocol; each switch can be set apart."""
    import torch

    from model.allocator import keep_freed_memory
    from model.checkpoint import load
    from model.evaluation.evaluate import evaluate as run
    from model.evaluation.reliability import draw

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    if protocol not in PROTOCOLS:
        raise FlagError(f"--protocol: no {protocol}; there are {', '.join(PROTOCOLS)}")
    switches = built(Protocol, PROTOCOLS[protocol].model_dump() | switched)
    loaded = load(checkpoint)
    if reliability and not loaded.config.tasks:
        raise FlagError(f"--reliability: {checkpoint} predicts no actions; nothing can be drawn")
    interactions = open_interactions(data)
    with progress() as bar:
        task = bar.add_task("users")
        found = run(
            loaded,
            interactions,
            switches,
            on_batch=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if reliability:
        draw({"": found.tasks}, reliability)
    result = _result(loaded, Path(data).name, protocol, switches, found)
    if output == "json":
        print_json(result)
    else:
        _print(result)


def _result(
    checkpoint: "Checkpoint", data: str, protocol: str, switches: Protocol, found: "Evaluation"
) -> dict[str, Any]:
    record = checkpoint.training
    options = record.get("options")
    return {
        "checkpoint": checkpoint.name,
        "fingerprint": checkpoint.digests().fingerprint.hex(),
        "data": data,
        "protocol": protocol,
        "switches": switches.model_dump()
        | {
            "history": checkpoint.config.window.capacity,
            "calibrated": checkpoint.calibration is not None,
            "epoch": record.get("epoch"),
            "held_out": _held_out(options) if isinstance(options, dict) else None,
            "training_seed": options.get("seed") if isinstance(options, dict) else None,
        },
        "users": found.num_users,
        "targets": found.num_targets,
        "num_candidates": found.num_candidates,
        "unknown_candidates": found.unknown_candidates,
        "unknown_targets": found.unknown_targets,
        "trained_targets": found.trained_targets,
        "metrics": found.metrics,
        "actions": {name: asdict(quality) for name, quality in found.tasks.items()},
    } | where()


def _held_out(options: dict[str, Any]) -> str:
    count, ties = options.get("num_held_out", 2), options.get("hold_out") == "ties"
    return f"last {count}" + (" and their ties" if ties else "")


def _print(result: dict[str, Any]) -> None:
    facts = {
        name: result[name]
        for name in ("users", "targets", "num_candidates", "unknown_candidates", "unknown_targets")
    }
    trained = result["trained_targets"]
    facts["trained_targets"] = "unknown: trained on other data" if trained is None else trained
    switches = [[name, str(value)] for name, value in (result["switches"] | facts).items()]
    print_table(f"protocol {result['protocol']} on {result['data']}", ["switch", "value"], switches)
    metrics = result["metrics"]
    cutoffs = [name.split("@")[1] for name in metrics if name.startswith("HR")]
    rows = [[f"@{k}", f"{metrics[f'HR@{k}']:.4f}", f"{metrics[f'NDCG@{k}']:.4f}"] for k in cutoffs]
    print_table(f"{result['checkpoint']}: next item", ["", "HR", "NDCG"], rows)
    for task, quality in result["actions"].items():
        print_table(
            f"{task}: normalised entropy {_figure(quality['normalised_entropy'])} over "
            f"{quality['num_events']} events",
            ["action", "share", "AUC", "calibration error"],
            [
                [name, *(_figure(a[key]) for key in ("share", "auc", "calibration_error"))]
                for name, a in quality["actions"].items()
            ],
        )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
