"""Owns `mfalcon train`. The flags of what it trains, and how, are the fields of `Shape` and of
`TrainingOptions`."""

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from model.training.options import TrainingOptions
from model.training.recipe import Recipe, Shape
from service.cli.data import open_interactions
from service.cli.flags import FlagError, built, flags_of
from service.cli.output import note, progress

if TYPE_CHECKING:
    from model.training.trainer import Trainer


@flags_of(Shape, "shape")
@flags_of(TrainingOptions, "given")
def train(
    shape: dict[str, Any],
    given: dict[str, Any],
    data: Annotated[str, typer.Option(help="a file, or the name of a public set")],
    out: Annotated[Path, typer.Option(help="checkpoint folder to write")],
    run: Annotated[
        Path | None,
        typer.Option("--run-folder", help="where the run is kept; resumed if it is there"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the checkpoint")] = None,
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
    with joined(device) as processes:
        options = built(TrainingOptions, {"accumulate": processes.count} | given)
        recipe = Recipe(built(Shape, shape), options, dict(map(_field, fields or [])))
        interactions = open_interactions(data)
        config = recipe.config(interactions)
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


def _field(text: str) -> tuple[str, Any]:
    """FIELD=VALUE; the value is JSON where it can be read as that."""
    name, equals, value = text.partition("=")
    if not equals:
        raise FlagError(f"--set {text}: write FIELD=VALUE, such as bias_heads=per_head")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


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
