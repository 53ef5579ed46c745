"""Owns `mfalcon bench engine`: measuring shapes, printing, writing and drawing them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from service.cli.bench.options import Rounds, Threads, prepare
from service.cli.output import (
    Output,
    machine_line,
    print_json,
    print_report,
    progress,
    table,
    where,
    write_report,
)

if TYPE_CHECKING:
    from service.benchmark.engine.measure import EngineMeasurement, Timing
    from service.benchmark.shapes import Shape

Name = Literal["all", "mlwhiz", "ml-1m", "mid", "kuairand-small", "kuairand", "dlrmv3"]
_RATIOS = {
    "loop_over_cached": "loop of full forwards / score",
    "loop_over_prefill_and_cached": "loop of full forwards / prefill and score",
    "batched_over_cached": "batched full forwards / score",
    "batched_over_prefill_and_cached": "batched full forwards / prefill and score",
    "plain_over_prefill": "prefill in plain tensor operations / prefill",
    "plain_over_extend_by_1": "extend by 1 in plain tensor operations / extend by 1",
    "plain_over_extend_by_16": "extend by 16 in plain tensor operations / extend by 16",
    "plain_over_score": "score in plain tensor operations / score",
    "plain_over_request": "request in plain tensor operations / request",
    "score_over_gemm_floor": "score / its matrix products alone",
    "score_matrix_share_1": "matrix products alone / score: share of the matrix rate",
    "score_matrix_share_8": "the same for 8 users",
    "score_matrix_share_32": "the same for 32 users",
    "extend_over_prefill": "extend by 1 / prefill",
    "batched_over_single": "16 users one by one / together",
    "cached_request_speedup": "request with nothing cached / with {cached} of {events} events",
    "operation_ratio": "operations of the one / of the other",
}


def engine(
    shape: Annotated[
        Name, typer.Option(help="all: on a GPU every shape, on a CPU the smaller four")
    ] = "all",
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes a GPU if there is one")
    ] = "auto",
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="of the engine and of the floor; full forwards are float32's alone"),
    ] = "float32",
    microbatch: Annotated[int, typer.Option(min=1, help="candidates of a user in a pass")] = 512,
    batch_rows: Annotated[
        int, typer.Option(min=1, help="rows of requests that run together in the stream")
    ] = 4096,
    rounds: Rounds = 5,
    threads: Threads = 0,
    seed: int = 0,
    out: Annotated[
        Path | None, typer.Option(help="folder for engine.txt, engine.json and engine.png")
    ] = None,
    output: Output = "table",
) -> None:
    """Measure the engine against the machine's matrix rate and against full forwards.

    Prefill, extend, score and whole requests of 1, 8 and 32 users, then a stream of requests. The
    floor is the time that the matrix products of an exact answer alone would take, at the best rate
    torch reaches in the same run. The full forwards are the fastest there are here, not the oracle.
    """
    prepare(threads)
    from service.served_model import pick_device

    device_name = pick_device(device)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    found = [
        _measure(each, device_name, dtype, microbatch, batch_rows, rounds, seed)
        for each in _shapes(shape, device_name)
    ]
    result: dict[str, Any] = {"shapes": [asdict(each) for each in found]} | where()
    report = [part for each in found for part in _report(each)] + [machine_line()]
    if out is not None:
        from service.benchmark.engine.picture import draw

        (out / "engine.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_report(report, out / "engine.txt")
        draw(found, out / "engine.png")
    if output == "json":
        print_json(result)
    else:
        print_report(report)


def _shapes(name: Name, device: str) -> "list[Shape]":
    from service.benchmark.shapes import SHAPES, SMALL_SHAPES

    if name != "all":
        return [SHAPES[name]]
    return [SHAPES[each] for each in (SHAPES if device == "cuda" else SMALL_SHAPES)]


def _measure(
    shape: "Shape",
    device: str,
    dtype: str,
    microbatch: int,
    batch_rows: int,
    rounds: int,
    seed: int,
) -> "EngineMeasurement":
    import torch

    from service.benchmark.engine.measure import measure

    with progress() as bar:
        task = bar.add_task(shape.name, total=None)
        return measure(
            shape,
            device=device,
            dtype=getattr(torch, dtype),
            microbatch=microbatch,
            batch_rows=batch_rows,
            rounds=rounds,
            seed=seed,
            on_turn=lambda name, done, total: bar.update(
                task, completed=done, total=total, description=f"{shape.name}: {name}"
            ),
        )


def _report(found: "EngineMeasurement") -> list[Table | str]:
    shape = found.shape
    title = (
        f"{shape.name}: {shape.title}, d={shape.d_model}, {shape.num_events} events, "
        f"{shape.num_candidates} candidates; {found.device}, {found.dtype}, {found.kernels}; "
        f"medians of {found.rounds} interleaved rounds"
    )
    return [_timings(found, title), _ratios(found), _curves(found), _notes(found)]


def _timings(found: "EngineMeasurement", title: str) -> Table:
    """Milliseconds, and in brackets how many times the floor they are."""
    sizes = sorted({timing.num_users for timing in found.timings})
    rows: dict[str, dict[int, Timing]] = {}
    for timing in found.timings:
        rows.setdefault(timing.name, {})[timing.num_users] = timing
    columns = ["ms (times the floor)", *(f"{n} user{'s'[: n > 1]}" for n in sizes)]
    cells = [
        [name, *(_cell(timings.get(size)) for size in sizes)] for name, timings in rows.items()
    ]
    cells += [
        [f"{name}: full forwards of {each.batch}", f"{each.median_ms:.1f}", *[""] * len(sizes[1:])]
        for name, each in found.baselines.items()
    ]
    return table(title, columns, cells)


def _cell(timing: "Timing | None") -> str:
    return "" if timing is None else f"{timing.median_ms:.2f} ({timing.over_floor:.1f}x)"


def _ratios(found: "EngineMeasurement") -> Table:
    shape = found.shape
    sizes = {"cached": shape.num_cached or shape.num_events - 1, "events": shape.num_events}
    rows = [
        [name, what.format(**sizes), _number(found.ratios[name])]
        for name, what in _RATIOS.items()
        if name in found.ratios
    ]
    return table(f"{shape.name}: ratios", ["ratio", "of", ""], rows)


def _number(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2f}"


def _curves(found: "EngineMeasurement") -> Table:
    rows = [
        [
            name,
            "  ".join(
                f"{size}: {ms:.2f}" for size, ms in zip(curve.sizes, curve.median_ms, strict=True)
            ),
            f"{curve.exponent:.2f}",
        ]
        for name, curve in found.curves.items()
    ]
    title = f"{found.shape.name}: growth; 1 is linear, a part that does not grow makes it less"
    return table(title, ["", "ms by size", "exponent"], rows)


def _notes(found: "EngineMeasurement") -> str:
    rate, memory, stream = found.matrix_rate, found.memory, found.stream
    lines = [
        f"matrix rate {rate.operations_per_ms / 1e6:.0f} GFLOP/s "
        f"({found.dtype}, at {rate.size} x {rate.size}); "
        f"scores agree within {found.max_abs_diff:.1e}",
        f"{stream.num_clients} clients who ask again when answered, their states in tensors: "
        f"{stream.per_s:,.0f} requests/s, p50 {stream.p50_ms:.1f} ms, p99 {stream.p99_ms:.1f} ms",
        f"a state takes {memory.state_bytes / 2**20:.2f} MiB; "
        f"this process at most {memory.peak_rss_bytes / 2**20:.0f} MiB",
    ]
    if memory.peak_device_bytes is not None:
        lines[-1] += f", its tensors on the GPU {memory.peak_device_bytes / 2**20:.0f} MiB"
    for name, each in found.baselines.items():
        if each.num_timed < found.shape.num_candidates:
            lines.append(f"{name}: scaled from {each.num_timed} candidates to all")
    missing = {"loop", "batched"} - set(found.baselines) if found.dtype == "float32" else set()
    lines += [f"{name}: left out, one forward is too much here" for name in sorted(missing)]
    return "\n".join(lines) + "\n"
