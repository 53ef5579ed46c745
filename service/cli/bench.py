"""Owns `mfalcon bench`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.bench_reads import bench_reads
from service.cli.bench_state import bench_state
from service.cli.output import Output, print_json, print_table, progress, say, where
from service.settings import DEMO_CHECKPOINT

_ML_1M = DEMO_CHECKPOINT.with_name("ml-1m")
_LABELS = {
    "loop": "loop of full forwards",
    "batched": "full forwards, 64 at a time",
    "prefill_and_cached": "prefill, then the cached pass",
    "cached": "cached pass",
}


def bench(
    shape: Annotated[
        Literal["mlwhiz", "training"],
        typer.Option(help="mlwhiz: a request; training: an epoch over --data"),
    ] = "mlwhiz",
    state: Annotated[
        bool, typer.Option("--state", help="what stored states cost, in each dtype, instead")
    ] = False,
    reads: Annotated[
        bool, typer.Option("--reads", help="reading states against redis-py's client, instead")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(help="with --reads: URL of a Redis or Valkey; default: an embedded one"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="a file, or the name of a public set: for --shape training (default: ml-1m); "
            "with --state: compares answers on it, too"
        ),
    ] = None,
    checkpoint: Annotated[
        Path, typer.Option(help="with --state and --data: a checkpoint of this data")
    ] = _ML_1M,
    users: Annotated[
        int | None, typer.Option(min=1, help="with --state and --data: how many; default: all")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="with --state: draw fetching against encoding, a PNG")
    ] = None,
    microbatch: Annotated[int, typer.Option(min=1, help="candidates per pass")] = 512,
    rounds: Annotated[int, typer.Option(min=1, help="interleaved rounds; medians are kept")] = 7,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes every core")] = 0,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure M-FALCON on a cached user state against full forwards, in one run.

    The full forwards are the fastest there are here, not the oracle. With `--shape training`: an
    epoch of training against a plain padded implementation, in `rounds` parts that take turns.
    With `--state`: bytes of a stored state, reading it against encoding it anew, and what fewer
    bits do to answers. With `--reads`: reading stored states against redis-py's asyncio client.
    """
    if reads:
        bench_reads(store=store, rounds=rounds, threads=threads, seed=seed, output=output)
        return
    if state:
        bench_state(
            checkpoint=checkpoint,
            data=data,
            users=users,
            picture=picture,
            rounds=rounds,
            threads=threads,
            seed=seed,
            output=output,
        )
    elif shape == "training":
        _training(data or "ml-1m", rounds, threads, seed, output)
    else:
        _serving(shape, microbatch, rounds, threads, seed, output)


def _serving(
    shape: str, microbatch: int, rounds: int, threads: int, seed: int, output: str
) -> None:
    import torch

    from model.allocator import keep_freed_memory
    from service.benchmark.run import measure
    from service.benchmark.shapes import SHAPES

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    with progress() as bar:
        task = bar.add_task("bench", total=rounds)
        found = measure(
            SHAPES[shape],
            microbatch=microbatch,
            rounds=rounds,
            seed=seed,
            on_round=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if output == "json":
        print_json(asdict(found) | {"shape": shape, "sizes": asdict(found.shape)} | where())
        return
    by_name = {"loop": "loop_over_cached", "batched": "batched_over_cached"}
    rows = [
        [
            label,
            f"{found.median_ms[name]:.2f}",
            f"{found.ratios[by_name[name]]:.0f}x" if name in by_name else "",
        ]
        for name, label in _LABELS.items()
    ]
    sizes = found.shape
    print_table(
        f"{shape}: {sizes.num_layers} layers, d={sizes.d_model}, {sizes.num_events} events, "
        f"{sizes.num_candidates} candidates; medians of {rounds} interleaved rounds",
        ["", "ms", "over the cached pass"],
        rows,
    )
    machine = where()
    say(
        f"loop over prefill and cached pass: "
        f"{found.ratios['loop_over_prefill_and_cached']:.0f}x; "
        f"scores agree within {found.max_abs_diff:.1e}\n"
        f"{machine['machine']}, torch {machine['torch']}, commit {machine['commit']}"
    )


def _training(data: str, rounds: int, threads: int, seed: int, output: str) -> None:
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
    machine = where()
    if output == "json":
        print_json(asdict(found) | {"shape": "training", "data": Path(data).name} | machine)
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
    say(
        f"losses agree within {found.loss_difference:.1e}\n"
        f"{machine['machine']}, torch {machine['torch']}, commit {machine['commit']}"
    )
