"""What the cache did: hits by tier, rows reused against rows encoded, and what a hit gains.

Owns these three charts. Only answers to recommendations count, as only they tell it.
"""

from collections.abc import Sequence

import numpy as np

from loadtests.report import style
from loadtests.report.chart import Chart, Table, count, ms, rate, share
from loadtests.report.measured import Flags, Measured, is_answer, percentile

_SOURCES = {
    "hit, device": style.GREEN,
    "hit, redis": style.BLUE,
    "hit, memory": style.SKY,
    "recomputed": style.SAND,
    "miss": style.ORANGE,
    "error": style.RED,
}


def tiers(run: Measured) -> Chart | None:
    """None if no answer told its cache."""
    sources = _sources(run)
    if not sources:
        return None
    made = style.figure(3.0)
    (axes,) = style.panels(made)
    counts = {name: run.per_window(chosen) for name, chosen in sources.items()}
    totals = np.maximum(np.sum(list(counts.values()), axis=0), 1e-9)
    edges = np.append(run.window_starts_s, run.window_starts_s[-1] + run.window_s)
    below = np.zeros(len(totals))
    for name, each in counts.items():
        top = below + 100 * each / totals
        colour = _SOURCES.get(name, style.GREY)
        axes.stairs(top, edges, baseline=below, fill=True, color=colour, label=name)
        below = top
    axes.set(xlabel="seconds since the run began", ylabel="% of answers", ylim=(0, 100))
    axes.set_xlim(0, edges[-1])
    style.legend_above(axes)
    num_told = sum(int(chosen.sum()) for chosen in sources.values())
    return Chart(
        name="tiers",
        title="Hit ratio by tier",
        says="Where each answer's state came from: this process (device), the store, or nowhere "
        "(miss: what is held of the user was nothing). A run begins with misses unless its users "
        "were known; what counts is where it settles.",
        figure=made,
        table=Table(
            columns=["source", "answers", "share"],
            rows=[
                [name, count(chosen.sum()), share(int(chosen.sum()), num_told)]
                for name, chosen in sources.items()
            ],
        ),
    )


def rows(run: Measured) -> Chart | None:
    """None if no row was reused or encoded."""
    reused = [sample.reused_events for sample in run.samples]
    encoded = [sample.encoded_events for sample in run.samples]
    if not sum(reused) and not sum(encoded):
        return None
    made = style.figure(2.9)
    (axes,) = style.panels(made)
    x = run.window_starts_s + run.window_s / 2
    for name, values, colour, dash in (
        ("reused", reused, style.GREEN, "-"),
        ("encoded", encoded, style.ORANGE, "--"),
    ):
        per_s = run.per_window(run.answered, values) / run.window_s
        axes.plot(x, np.where(per_s > 0, per_s, np.nan), dash, color=colour, label=name)
    axes.set(yscale="log", xlabel="seconds since the run began", ylabel="event rows/s")
    axes.set_xlim(0, run.window_starts_s[-1] + run.window_s)
    style.plain_ticks(axes, y=True)
    style.legend_above(axes)
    both = sum(reused) + sum(encoded)
    return Chart(
        name="rows",
        title="Rows reused and encoded",
        says="Event rows that answers took from states, and those that were run, on a logarithmic "
        "axis. A hit ratio counts users; this counts the work that was saved.",
        figure=made,
        table=Table(
            columns=["rows", "in all", "share", "an answer"],
            rows=[
                [name, count(num), share(num, both), rate(num / max(run.answered.sum(), 1))]
                for name, num in (("reused", sum(reused)), ("encoded", sum(encoded)))
            ],
        ),
    )


def cached(runs: Sequence[Measured]) -> Chart | None:
    """None unless there are hits and misses."""
    groups = {name: _latencies(runs, status) for name, status in (("hit", "hit"), ("miss", "miss"))}
    if not all(len(ms_and_rows[0]) for ms_and_rows in groups.values()):
        return None
    made = style.figure(3.2)
    (axes,) = style.panels(made)
    for (name, (latencies, _)), colour, dash in zip(
        groups.items(), (style.GREEN, style.ORANGE), ("-", "--"), strict=True
    ):
        ordered = np.sort(latencies)
        shares = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
        axes.step(ordered, shares, dash, where="post", color=colour, label=name)
    axes.set(xscale="log", xlabel="milliseconds", ylabel="% of answers no slower", ylim=(0, 101))
    style.plain_ticks(axes, x=True)
    style.legend_above(axes)
    table_rows = []
    for name, (latencies, encoded) in groups.items():
        figures = [ms(percentile(latencies, percent)) for percent in (50, 95, 99)]
        table_rows.append([name, *figures, rate(float(encoded.mean())), count(len(latencies))])
    return Chart(
        name="cached",
        title="Cached against uncached",
        says="Answers whose user's state was held, and those whose was not. They are not the same "
        "requests: a miss brings as many events as the table says, often fewer than a returning "
        "user holds, so its disadvantage for a long history is larger than shown.",
        figure=made,
        table=Table(
            columns=["", "p50 ms", "p95 ms", "p99 ms", "rows encoded, mean", "answers"],
            rows=table_rows,
        ),
    )


def _sources(run: Measured) -> dict[str, Flags]:
    """Answers by status and tier, the usual ones first."""
    names = np.array(
        [
            f"hit, {sample.tier}" if sample.cache_status == "hit" else sample.cache_status
            for sample in run.samples
        ]
    )
    found = set(names[run.answered].tolist()) - {""}
    order = [name for name in _SOURCES if name in found] + sorted(found - set(_SOURCES))
    return {name: run.answered & (names == name) for name in order}


def _latencies(
    runs: Sequence[Measured], status: str
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.int64]]
]:
    """Milliseconds and rows encoded, of answers with this cache status."""
    chosen = [
        (sample.latency_ms, sample.encoded_events)
        for run in runs
        for sample in run.samples
        if is_answer(sample) and sample.cache_status == status
    ]
    return (
        np.array([latency for latency, _ in chosen], dtype=np.float64),
        np.array([encoded for _, encoded in chosen], dtype=np.int64),
    )
