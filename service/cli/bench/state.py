"""Owns `mfalcon bench state`: running its parts and printing them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.bench.options import Rounds, Threads, prepare
from service.cli.data import open_interactions
from service.cli.output import Output, machine_line, print_json, print_table, progress, say, where
from service.settings import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from service.benchmark.state_cost import StateCost
    from service.benchmark.state_effect import Effects

_ML_1M = DEMO_CHECKPOINT.with_name("ml-1m")


def state(
    data: Annotated[
        str | None,
        typer.Option(help="a file, or the name of a public set; compares answers on it, too"),
    ] = None,
    checkpoint: Annotated[
        Path, typer.Option(help="with --data: a checkpoint of this data")
    ] = _ML_1M,
    users: Annotated[
        int | None, typer.Option(min=1, help="with --data: how many; default: all")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="draw fetching against encoding, a PNG")
    ] = None,
    rounds: Rounds = 7,
    threads: Threads = 0,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure what stored states cost, in each dtype, against an embedded Valkey.

    Bytes of a state, reading it against encoding it anew and, with --data, what fewer bits do to
    answers.
    """
    prepare(threads)
    if picture is not None and not picture.parent.is_dir():
        raise FileNotFoundError(f"--picture: {picture.parent} is not a folder")
    effects = _effects(checkpoint, data, users, seed) if data else None
    costs = _costs(rounds, seed)
    if picture is not None:
        from service.benchmark.state_picture import draw

        draw(costs, picture)
    if output == "json":
        found = {"costs": [asdict(cost) for cost in costs]}
        effect = {"effect": None if effects is None else asdict(effects)}
        print_json(found | effect | {"data": data and Path(data).name} | where())
        return
    for cost in costs:
        _print_cost(cost)
    if effects is not None:
        _print_effects(effects, checkpoint)
    say(machine_line())


def _costs(rounds: int, seed: int) -> "list[StateCost]":
    from service.benchmark.shapes import STATE_SHAPES
    from service.benchmark.state_cost import LENGTHS, measure_state
    from service.embedded import EmbeddedValkey

    with EmbeddedValkey(1 << 30) as server, progress() as bar:
        task = bar.add_task("bench", total=len(STATE_SHAPES) * len(LENGTHS))
        return [
            measure_state(
                shape,
                server.url,
                lengths=LENGTHS,
                rounds=rounds,
                seed=seed,
                on_length=lambda length, name=shape.name: bar.update(  # type: ignore[misc]
                    task, advance=1, description=f"{name}, {length} events"
                ),
            )
            for shape in STATE_SHAPES
        ]


def _effects(checkpoint: Path, data: str, users: int | None, seed: int) -> "Effects":
    from model.checkpoint import load
    from service.benchmark.state_effect import measure_effect

    loaded, interactions = load(checkpoint), open_interactions(data)
    with progress() as bar:
        task = bar.add_task("users")
        return measure_effect(
            loaded,
            interactions,
            num_users=users,
            seed=seed,
            on_user=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _print_cost(cost: "StateCost") -> None:
    from service.benchmark.state_cost import APPENDED_TO

    shape = cost.shape
    print_table(
        f"{shape.name}: {shape.title}; a state of {shape.num_events} events takes "
        f"{cost.tensor_bytes} bytes as tensors",
        [
            "stored as",
            "bytes an event",
            f"{shape.num_events} events",
            "of float32",
            f"an append to {APPENDED_TO} sends",
            "of that state",
            "fetching wins from",
        ],
        [
            [
                dtype,
                str(size.per_event),
                str(size.per_user),
                f"{size.of_float32:.4f}",
                str(size.append_sent),
                f"{size.append_share:.2%}",
                _crossover(cost, dtype),
            ]
            for dtype, size in cost.bytes.items()
        ],
    )
    print_table(
        f"{shape.name}: milliseconds, and how many fetches one encoding takes; "
        f"the fastest of each turn, medians of {cost.rounds} interleaved rounds",
        ["events", "encode anew", *(f"fetch {dtype}" for dtype in cost.bytes)],
        [
            [
                str(point.num_events),
                f"{point.recompute_ms:.2f}",
                *(f"{ms:.2f} ({point.recompute_ms / ms:.1f}x)" for ms in point.fetch_ms.values()),
            ]
            for point in cost.points
        ],
    )


def _crossover(cost: "StateCost", dtype: str) -> str:
    """Over the lengths that were measured."""
    found = cost.crossover[dtype]
    if found is None:
        return f"not up to {cost.points[-1].num_events}"
    return f"{found} or fewer" if found == cost.points[0].num_events else str(found)


def _print_effects(effects: "Effects", checkpoint: Path) -> None:
    from service.benchmark.state_effect import PROTOCOL

    columns: Sequence[str] = (
        "largest difference",
        "of the largest logit",
        "mean",
        "top-10 overlap",
        "of the served list",
        "HR@10",
        "change",
    )
    print_table(
        f"{checkpoint.name}, {effects.num_users} of {effects.num_asked} users, protocol "
        f"{PROTOCOL}: states stored and read {effects.num_pieces} times, against one never "
        f"stored (HR@10 {effects.hr10:.4f})",
        ["stored as", *columns],
        [
            [
                dtype,
                f"{effect.largest_difference:.1e}",
                f"{effect.largest_share:.2%}",
                f"{effect.mean_difference:.1e}",
                f"{effect.top10_overlap:.4f}",
                f"{effect.served_top10_overlap:.4f}",
                f"{effect.hr10:.4f}",
                f"{effect.hr10_change:+.4f}",
            ]
            for dtype, effect in effects.by_dtype.items()
        ],
    )
