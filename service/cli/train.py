"""Owns `mfalcon train`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console


def train(
    data: Annotated[Path, typer.Option(help="MovieLens archive in its original layout (.zip)")],
    out: Annotated[Path, typer.Option(help="checkpoint folder to write")],
    run: Annotated[
        Path | None, typer.Option(help="folder of the run's state; resumed if it has one")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the checkpoint")] = None,
    d_model: Annotated[int, typer.Option(min=1, help="model width")] = 64,
    layers: Annotated[int, typer.Option(min=1)] = 4,
    heads: Annotated[int, typer.Option(min=1)] = 2,
    head_dim: Annotated[int, typer.Option(min=1, help="width per head, q, k and v")] = 32,
    dropout: Annotated[float, typer.Option(min=0, max=0.95)] = 0.2,
    residual: Annotated[str, typer.Option(help="residual stream: input or normed")] = "normed",
    max_length: Annotated[int, typer.Option(min=1, help="events per training window")] = 200,
    epochs: Annotated[int, typer.Option(min=1)] = 100,
    patience: Annotated[
        int, typer.Option(min=1, help="stop after this many epochs without a better validation")
    ] = 10,
    batch_users: Annotated[int, typer.Option(min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.0,
    action_weight: Annotated[float, typer.Option(min=0, help="weight of the action loss")] = 0.5,
    seed: int = 0,
    demo_histories: Annotated[
        int, typer.Option(min=0, help="write this many users' histories beside the checkpoint")
    ] = 0,
) -> None:
    """Train a native HSTU on MovieLens; the epoch is chosen on each user's validation event.

    Stopped runs continue where they were; run the same command again.
    """
    console = Console(stderr=True)
    try:
        from model.training.movielens import DataError, read_movielens
        from model.training.trainer import RunError, Trainer, TrainingOptions
    except ImportError as error:
        console.print(
            f"mfalcon train needs the train extra: pip install 'mfalcon[train]' ({error})"
        )
        raise typer.Exit(2) from error
    from pydantic import ValidationError

    from model.allocator import keep_freed_memory
    from model.presets import native
    from model.training.demo import write_demo_histories

    keep_freed_memory()
    try:
        interactions = read_movielens(data)
        config = native(
            len(interactions.items),
            d_model=d_model,
            num_layers=layers,
            num_heads=heads,
            qk_dim=head_dim,
            v_dim=head_dim,
            dropout=dropout,
            residual=residual,
        )
        options = TrainingOptions(
            epochs=epochs,
            patience=patience,
            batch_users=batch_users,
            max_length=max_length,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            action_weight=action_weight,
            seed=seed,
        )
        trainer = Trainer(config, options, interactions, run or Path("runs") / out.name)
    except (DataError, RunError, ValidationError) as error:
        console.print(f"mfalcon: {error}", style="red", highlight=False, markup=False)
        raise typer.Exit(2) from error
    if trainer.epoch:
        console.print(f"resuming after epoch {trainer.epoch}")
    _run(trainer)
    checkpoint = trainer.finish(name or out.name, out, data.name)
    if demo_histories:
        write_demo_histories(interactions, checkpoint, out, demo_histories)
    console.print(f"wrote {out}: test {_figures(checkpoint.training['test'])}", highlight=False)


def _run(trainer: Any) -> None:
    from service.cli.output import progress

    with progress() as bar:
        task = bar.add_task(f"epoch {trainer.epoch + 1}")
        for report in trainer.train(
            lambda done, total: bar.update(task, completed=done, total=total)
        ):
            mark = "  best" if report.improved else ""
            bar.console.print(
                f"epoch {report.epoch}  loss {report.loss:.4f}  "
                f"validation {_figures(report.validation)}{mark}",
                highlight=False,
            )
            bar.reset(task, description=f"epoch {report.epoch + 1}")


def _figures(metrics: Any) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
