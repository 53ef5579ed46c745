"""Owns `mfalcon bench slate`: measuring slates and printing what they cost and find."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.bench.options import Rounds, Threads, prepare
from service.cli.data import open_interactions
from service.cli.output import Output, machine_line, print_json, print_table, progress, say, where
from service.settings import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from service.benchmark.slate import SlateCost, SlateGain


def slate(
    checkpoint: Annotated[
        Path, typer.Option(help="whose example histories are continued, without --data")
    ] = DEMO_CHECKPOINT,
    data: Annotated[
        str | None,
        typer.Option(help="a file, or the name of a public set, whose users are continued"),
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="with --data: how many")] = 500,
    beam: Annotated[int, typer.Option(min=2, help="compared with a greedy sequence")] = 4,
    rounds: Rounds = 5,
    threads: Threads = 0,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure slates: what an item costs by beam, and what a beam finds that greedy does not.

    Against extends and prefills of the same shapes, which take turns with it; and on users of a
    checkpoint.
    """
    prepare(threads)
    gain = _gain(checkpoint, data, users, beam, seed)
    costs = _costs(rounds, seed)
    if output == "json":
        found = {"costs": [asdict(cost) for cost in costs], "gain": asdict(gain)}
        print_json(found | where())
        return
    _print_costs(costs)
    _print_gain(gain, checkpoint)
    say(machine_line())


def _gain(folder: Path, data: str | None, num_users: int, beam: int, seed: int) -> "SlateGain":
    from model.checkpoint import load
    from model.engine.engine import Engine
    from model.errors import InputError
    from service.benchmark.slate import histories_of, measure_gain
    from service.verification.users import example_histories

    checkpoint = load(folder)
    if data is not None:
        histories = histories_of(checkpoint, open_interactions(data), num_users, seed)
    elif not (histories := example_histories(checkpoint, folder)):
        raise InputError(f"{folder} has no histories.json to continue; give --data")
    return measure_gain(Engine(checkpoint.network), histories, beam)


def _costs(rounds: int, seed: int) -> "list[SlateCost]":
    from service.benchmark.shapes import SHAPES, SMALL_SHAPES
    from service.benchmark.slate import measure_cost

    with progress() as bar:
        task = bar.add_task("bench", total=None)

        def show(name: str, turn: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"{name}: {turn}")

        return [
            measure_cost(SHAPES[name], rounds=rounds, seed=seed, on_turn=partial(show, name))
            for name in SMALL_SHAPES
        ]


def _print_costs(costs: "list[SlateCost]") -> None:
    rows = [
        [
            cost.shape.name,
            str(beam),
            f"{step_ms:.2f}",
            f"{cost.over(beam, cost.extend_ms):.2f}",
            f"{cost.over(beam, cost.append_ms):.2f}",
            f"{cost.over(beam, cost.prefill_ms):.2f}",
        ]
        for cost in costs
        for beam, step_ms in cost.step_ms.items()
    ]
    columns = ["shape", "beam", "ms an item", "/ B extends", "/ B appends", "/ B prefills"]
    print_table(
        f"an item of a slate; append: extend, and score as a client would; {costs[0].kernels}; "
        f"medians of {costs[0].rounds} interleaved rounds",
        columns,
        rows,
    )


def _print_gain(gain: "SlateGain", checkpoint: Path) -> None:
    say(
        f"{checkpoint.name}, {gain.users} users, {gain.length} items, beam {gain.beam} against "
        f"greedy: another sequence for {gain.different:.0%}, of other items for "
        f"{gain.other_items:.0%}; its log probability is larger by {gain.gain:.2f} (at most "
        f"{gain.largest_gain:.2f})"
    )
