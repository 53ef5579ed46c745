"""Owns `mfalcon train`. The flags of how it trains are the fields of `TrainingOptions`."""

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from model.training.options import TrainingOptions
from service.cli.data import open_interactions
from service.cli.flags import FlagError, built, flags_of
from service.cli.output import note, progress

if TYPE_CHECKING:
    from model.config import ActionTask, HSTUConfig
    from model.training.trainer import Trainer


@flags_of(TrainingOptions, "given")
def train(
    given: dict[str, Any],
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
    layers: Annotated[int, typer.Option(min=1, help="blocks, one above the other")] = 4,
    heads: Annotated[int, typer.Option(min=1, help="attention heads")] = 2,
    head_dim: Annotated[int, typer.Option(min=1, help="width per head, q, k and v")] = 32,
    dropout: Annotated[float, typer.Option(min=0, max=0.95, help="while training")] = 0.2,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE of the configuration, as in model/config.py"),
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="checkpoint whose weights are the first ones")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one")] = "auto",
    select: Annotated[
        Literal["best", "last"], typer.Option(help="which epoch becomes the checkpoint")
    ] = "best",
    metadata: Annotated[
        bool, typer.Option(help="keep titles and the like beside the item ids")
    ] = True,
    demo_histories: Annotated[
        int, typer.Option(min=0, help="write this many users' histories beside the checkpoint")
    ] = 0,
) -> None:
    """Train an HSTU; the best epoch is that on each user's validation event, the one before last.

    Stopped runs continue where they were: run the same command again. `torchrun --nproc-per-node N
    -m service.cli train ...` shares the work of each step among N processes or GPUs, in at least
    N parts (--accumulate).
    """
    from model.allocator import keep_freed_memory
    from model.checkpoint import load
    from model.training.demo import write_demo_histories
    from model.training.processes import joined
    from model.training.trainer import Trainer

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
    with joined(device) as processes:
        options = built(TrainingOptions, {"accumulate": processes.count} | given)
        interactions = open_interactions(data)
        tasks = interactions.tasks if options.action_weight else ()
        config = _config(preset, len(interactions.items), shape, tasks, fields or [])
        start = load(start_from) if start_from else None
        folder = run or Path("runs") / out.name
        trainer = Trainer(config, options, interactions, folder, processes, start)
        if not processes.leads:
            deque(trainer.train(lambda _done, _total: None), maxlen=0)
            return
        _run(trainer)
        checkpoint = trainer.finish(
            name or out.name, out, Path(data).name, select=select, with_metadata=metadata
        )
    if demo_histories:
        write_demo_histories(interactions, checkpoint, out, demo_histories)
    note(f"wrote {out}: test {_figures(checkpoint.training['test'])}")


def _config(
    preset: str,
    num_items: int,
    shape: dict[str, Any],
    tasks: "tuple[ActionTask, ...]",
    fields: list[str],
) -> "HSTUConfig":
    """The preset with what was asked for in its place; only `native` takes actions by itself."""
    from pydantic import ValidationError

    from model.errors import problems
    from model.presets import PRESETS

    if preset not in PRESETS:
        raise FlagError(f"--preset: no {preset}; there are {', '.join(PRESETS)}")
    asked = dict(shape) | ({"tasks": tasks} if preset == "native" else {})
    for field in fields:
        key, equals, text = field.partition("=")
        if not equals:
            raise FlagError(f"--set {field}: write FIELD=VALUE, such as bias_heads=per_head")
        try:
            asked[key] = json.loads(text)
        except ValueError:
            asked[key] = text
    try:
        return PRESETS[preset](num_items, **asked)
    except ValidationError as error:
        named = (f"{where or 'sizes'}: {what}" for where, what in problems(error))
        raise FlagError(f"configuration: {'; '.join(named)}") from error


def _run(trainer: "Trainer") -> None:
    from model.training.curve import draw

    if trainer.epoch:
        note(f"resuming after epoch {trainer.epoch}")
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
            draw(trainer.folder.path, trainer.reports)
            bar.reset(task, description=f"epoch {report.epoch + 1}")


def _figures(metrics: Any) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
