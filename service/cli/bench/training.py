"""Owns `mfalcon bench training`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.cli.bench.options import Rounds, Threads
from service.cli.output import Output, machine_line, print_json, print_table, progress, say, where


def training(
    data: Annotated[str, typer.Option(help="a file, or the name of a public set")] = "ml-1m",
    rounds: Rounds = 7,
    threads: Threads = 0,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure an epoch of training against a plain padded implementation.

    They take turns over `rounds` parts of the same steps.
    """
    from service.benchmark.training import measure_training

    with progress() as bar:
        task = bar.add_task("bench", total=rounds)
        try:
            found = measure_training(
                data,
                rounds=rounds,
                threads=threads,
                seed=seed,
                on_round=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except RuntimeError as error:
            raise typer.Exit(2) from error
    if output == "json":
        print_json(asdict(found) | {"shape": "training", "data": Path(data).name} | where())
        return
    print_table(
        f"one epoch of {found.num_events} events: 8 layers, d=50, full softmax; "
        f"{rounds} interleaved rounds",
        ["", "seconds", "over mfalcon"],
        [
            ["plain padded", f"{found.seconds['plain']:.1f}", f"{found.ratio:.2f}x"],
            ["mfalcon", f"{found.seconds['mfalcon']:.1f}", ""],
        ],
    )
    say(f"losses agree within {found.loss_difference:.1e}\n{machine_line()}")
