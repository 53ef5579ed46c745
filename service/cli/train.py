"""Owns `mfalcon train`."""

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.cli.data import EXTRA, complain, open_interactions

if TYPE_CHECKING:
    from model.config import ActionTask, HSTUConfig


def train(
    data: Annotated[str, typer.Option(help="a file, or the name of a public set")],
    out: Annotated[Path, typer.Option(help="checkpoint folder to write")],
    run: Annotated[
        Path | None,
        typer.Option("--run-folder", help="where the run is kept; resumed if it is there"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the checkpoint")] = None,
    preset: Annotated[str, typer.Option(help="formulation; see model/presets.py")] = "native",
    window: Annotated[
        int | None, typer.Option(min=2, help="events of a full window; its newest 3/4 are kept")
    ] = None,
    d_model: Annotated[int, typer.Option(min=1, help="model width")] = 64,
    layers: Annotated[int, typer.Option(min=1)] = 4,
    heads: Annotated[int, typer.Option(min=1)] = 2,
    head_dim: Annotated[int, typer.Option(min=1, help="width per head, q, k and v")] = 32,
    dropout: Annotated[float, typer.Option(min=0, max=0.95)] = 0.2,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE of the configuration, as in model/config.py"),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 100,
    patience: Annotated[
        int, typer.Option(min=1, help="stop after this many epochs without a better validation")
    ] = 10,
    validate_every: Annotated[int, typer.Option(min=1, help="epochs between validations")] = 1,
    start_from: Annotated[
        Path | None, typer.Option(help="checkpoint whose weights are the first ones")
    ] = None,
    num_held_out: Annotated[
        int, typer.Option(min=1, max=2, help="events of each user kept from training; 1: no choice")
    ] = 2,
    hold_out: Annotated[
        str, typer.Option(help="events: only those; ties: and all at the same second")
    ] = "events",
    windows: Annotated[
        str, typer.Option(help="train on all of a history, or on its last window: all or last")
    ] = "all",
    shuffle_ties: Annotated[
        float, typer.Option(min=0, max=1, help="share of windows with tied events shuffled")
    ] = 0.0,
    batch_users: Annotated[int, typer.Option(min=1, help="windows per step")] = 128,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="parts of a step; by default one per process")
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    decay: Annotated[str, typer.Option(help="of the learning rate: none or linear")] = "none",
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.0,
    loss: Annotated[str, typer.Option(help="softmax over the catalogue: full or sampled")] = "full",
    negatives: Annotated[int, typer.Option(min=1, help="per event, for the sampled loss")] = 128,
    action_weight: Annotated[
        float, typer.Option(min=0, help="weight of the action loss; 0: no action predictions")
    ] = 0.5,
    action_every: Annotated[
        int, typer.Option(min=1, help="steps between two that train the action predictions")
    ] = 1,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one")] = "auto",
    select: Annotated[
        Literal["best", "last"], typer.Option(help="which epoch becomes the checkpoint")
    ] = "best",
    metadata: Annotated[
        bool, typer.Option(help="keep titles and the like beside the item ids")
    ] = True,
    seed: int = 0,
    demo_histories: Annotated[
        int, typer.Option(min=0, help="write this many users' histories beside the checkpoint")
    ] = 0,
) -> None:
    """Train an HSTU; the best epoch is that on each user's validation event, the one before last.

    Stopped runs continue where they were: run the same command again. `torchrun --nproc-per-node N
    -m service.cli train ...` shares the work of each step among N processes or GPUs.
    """
    try:
        from model.data.errors import DataError
        from model.training.run_folder import RunError
        from model.training.trainer import Trainer
    except ImportError as error:
        complain(f"mfalcon train {EXTRA} ({error})")
        raise typer.Exit(2) from error
    from pydantic import ValidationError

    from model.allocator import keep_freed_memory
    from model.checkpoint import CheckpointError, load
    from model.training.demo import write_demo_histories
    from model.training.options import TrainingOptions
    from model.training.processes import joined

    keep_freed_memory()
    shape: dict[str, Any] = {
        "d_model": d_model,
        "num_layers": layers,
        "num_heads": heads,
        "qk_dim": head_dim,
        "v_dim": head_dim,
        "dropout": dropout,
    }
    if window is not None:
        shape["max_length"] = window
    try:
        with joined(device) as processes:
            options = TrainingOptions.model_validate(
                {
                    "epochs": epochs,
                    "patience": patience,
                    "validate_every": validate_every,
                    "seed": seed,
                    "num_held_out": num_held_out,
                    "hold_out": hold_out,
                    "windows": windows,
                    "shuffle_ties": shuffle_ties,
                    "batch_users": batch_users,
                    "accumulate": accumulate or processes.count,
                    "learning_rate": learning_rate,
                    "decay": decay,
                    "weight_decay": weight_decay,
                    "precision": precision,
                    "loss": loss,
                    "num_negatives": negatives,
                    "action_weight": action_weight,
                    "action_every": action_every,
                }
            )
            interactions = open_interactions(data)
            tasks = interactions.tasks if action_weight else ()
            config = _config(preset, len(interactions.items), shape, tasks, fields or [])
            folder = run or Path("runs") / out.name
            start = load(start_from) if start_from else None
            trainer = Trainer(config, options, interactions, folder, processes, start)
            if not processes.leads:
                deque(trainer.train(lambda _done, _total: None), maxlen=0)
                return
            _run(trainer)
            checkpoint = trainer.finish(
                name or out.name, out, Path(data).name, select=select, with_metadata=metadata
            )
    except (DataError, RunError, CheckpointError, ValidationError) as error:
        complain(f"mfalcon: {error}")
        raise typer.Exit(2) from error
    if demo_histories:
        write_demo_histories(interactions, checkpoint, out, demo_histories)
    complain(f"wrote {out}: test {_figures(checkpoint.training['test'])}", style="")


def _config(
    preset: str,
    num_items: int,
    shape: dict[str, Any],
    tasks: "tuple[ActionTask, ...]",
    fields: list[str],
) -> "HSTUConfig":
    """The preset with what was asked for in its place; only `native` takes actions by itself."""
    from model.presets import PRESETS
    from model.training.run_folder import RunError

    if preset not in PRESETS:
        raise RunError(f"no preset {preset}; there are {', '.join(PRESETS)}")
    asked = dict(shape) | ({"tasks": tasks} if preset == "native" else {})
    for field in fields:
        key, equals, text = field.partition("=")
        if not equals:
            raise RunError(f"--set {field}: write FIELD=VALUE, such as bias_heads=per_head")
        try:
            asked[key] = json.loads(text)
        except ValueError:
            asked[key] = text
    return PRESETS[preset](num_items, **asked)


def _run(trainer: Any) -> None:
    from model.training.curve import draw
    from service.cli.output import progress

    if trainer.epoch:
        complain(f"resuming after epoch {trainer.epoch}", style="")
    with progress() as bar:
        task = bar.add_task(f"epoch {trainer.epoch + 1}")
        for report in trainer.train(
            lambda done, total: bar.update(task, completed=done, total=total)
        ):
            mark = "  best" if report.improved else ""
            bar.console.print(
                f"epoch {report.epoch}  {report.seconds:.1f} s  loss {report.loss:.4f}  "
                f"{_figures(report.validation)}{mark}",
                highlight=False,
                soft_wrap=True,
            )
            if report.validation:
                draw(trainer.folder.path, trainer.reports)
            bar.reset(task, description=f"epoch {report.epoch + 1}")


def _figures(metrics: Any) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
