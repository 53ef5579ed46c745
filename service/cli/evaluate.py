"""Owns `mfalcon evaluate`. A protocol's switches are flags, the fields of `Protocol`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.evaluation.protocols import PROTOCOLS, Protocol
from model.spread import Spread
from service.cli.data import open_interactions
from service.cli.flags import FlagError, built, flags_of
from service.cli.output import Output, print_json, print_table, progress, where

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.evaluation.evaluate import Evaluation

_FACTS = ("users", "targets", "num_candidates", "unknown_candidates", "unknown_targets")


@flags_of(Protocol, "switched")
def evaluate(
    switched: dict[str, Any],
    checkpoints: Annotated[
        list[Path], typer.Argument(help="checkpoint folder; several give their mean and spread")
    ],
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
    if reliability and len(checkpoints) > 1:
        raise FlagError("--reliability: draws one checkpoint; several are given")
    loaded = [load(folder) for folder in checkpoints]
    if reliability and not loaded[0].config.tasks:
        raise FlagError(f"--reliability: {loaded[0].name} predicts no actions; nothing to draw")
    interactions = open_interactions(data)
    results = []
    with progress() as bar:
        task = bar.add_task("users")
        for checkpoint in loaded:
            found = run(
                checkpoint,
                interactions,
                switches,
                on_batch=lambda done, total: bar.update(task, completed=done, total=total),
            )
            results.append(_result(checkpoint, Path(data).name, protocol, switches, found))
    if reliability:
        draw({"": found.tasks}, reliability)
    if len(results) > 1:
        _tell_spread(results, output)
    elif output == "json":
        print_json(results[0])
    else:
        _print(results[0])


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
            "window": switches.window or checkpoint.config.window.capacity,
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


def _tell_spread(results: list[dict[str, Any]], output: Output) -> None:
    """Of several checkpoints, as of the seeds of one recipe."""
    spreads = {
        name: Spread.of([result["metrics"][name] for result in results])
        for name in results[0]["metrics"]
    }
    if output == "json":
        print_json({"runs": results, "metrics": {k: asdict(v) for k, v in spreads.items()}})
        return
    _print_switches(results)
    _print_metrics(f"mean ± sd of {len(results)} checkpoints", spreads)


def _print(result: dict[str, Any]) -> None:
    _print_switches([result])
    _print_metrics(result["checkpoint"], {k: f"{v:.4f}" for k, v in result["metrics"].items()})
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


def _print_switches(results: list[dict[str, Any]]) -> None:
    """A value for each where they differ."""
    rows: dict[str, list[str]] = {}
    for result in results:
        trained = result["trained_targets"]
        facts = {name: result[name] for name in _FACTS} | {
            "trained_targets": "unknown: trained on other data" if trained is None else trained
        }
        for name, value in (result["switches"] | facts).items():
            rows.setdefault(name, []).append(str(value))
    print_table(
        f"protocol {results[0]['protocol']} on {results[0]['data']}",
        ["switch", "value"],
        [[name, ", ".join(v if len(set(v)) > 1 else v[:1])] for name, v in rows.items()],
    )


def _print_metrics(name: str, metrics: Mapping[str, object]) -> None:
    cutoffs = [metric.split("@")[1] for metric in metrics if metric.startswith("HR")]
    rows = [[f"@{k}", str(metrics[f"HR@{k}"]), str(metrics[f"NDCG@{k}"])] for k in cutoffs]
    print_table(f"{name}: next item", ["", "HR", "NDCG"], rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
