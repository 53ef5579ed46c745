"""How long answers took: their distribution, and percentiles over time beside what became of all.

Owns these two charts. Latencies count from when a request was to be sent, so waiting is in them.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from loadtests.report import style
from loadtests.report.chart import Chart, Table, count, ms, rate, share
from loadtests.report.marks import draw_strip, num_lanes, shade
from loadtests.report.measured import Floats, Measured, percentile

_PERCENTS = (50, 90, 95, 99, 99.9)
_OVER_TIME = {50: (style.GREEN, "-"), 95: (style.ORANGE, "--"), 99: (style.BLUE, "-")}


def distribution(runs: Sequence[Measured]) -> Chart | None:
    """Of answered requests; None if there are none."""
    runs = [run for run in runs if run.answered.any()]
    if not runs:
        return None
    made = style.figure(3.6)
    counts, ranks = style.panels(made, 1, 2, width_ratios=[1, 1.25])
    low, high = _range_ms(runs)
    edges = np.geomspace(low, high, 41)
    for place, run in enumerate(runs):
        colour = style.SERIES[place % len(style.SERIES)]
        answered = run.latency_ms[run.answered]
        shares = np.histogram(answered, edges)[0] / len(answered)
        counts.stairs(100 * shares, edges, color=colour, fill=len(runs) == 1, alpha=0.85)
        _rank_lines(ranks, run, colour, is_only=len(runs) == 1)
    counts.set(xscale="log", xlabel="milliseconds", title="share of answers, %", xlim=(low, high))
    style.plain_ticks(counts, x=True)
    _rank_axis(ranks, max(int(run.answered.sum()) for run in runs))
    budgets = {run.budget_ms for run in runs if run.budget_ms}
    for budget in budgets:
        counts.axvline(budget, color=style.RED, linewidth=1)
        ranks.axhline(budget, color=style.RED, linewidth=1, label=f"budget {budget:g} ms")
    style.legend_over_all(made, ranks, columns=6 if len(runs) == 1 else 3)
    return Chart(
        name="latency",
        title="Latency",
        says="Left: how many answers took how long. Right: the latency (up) that a share of the "
        "answers (to the right, ever finer) stayed below. Solid: from when a request was to be "
        "sent, as users feel it. Dotted: from when it was sent, which hides the wait for a busy "
        "sender. Refusals and errors are left out: they are quick, and no answers.",
        figure=made,
        table=Table(
            columns=["ms", *(f"p{percent:g}" for percent in _PERCENTS), "longest", "answers"],
            rows=[_row(run) for run in runs],
        ),
    )


def over_time(run: Measured) -> Chart | None:
    """With faults and phases marked; None if nothing was asked."""
    if not len(run.at_s):
        return None
    lanes = num_lanes(run)
    made = style.figure(4.9 + 0.22 * lanes)
    ratios = [0.2 * lanes, 2.4, 1.8] if lanes else [2.4, 1.8]
    axes = style.panels(made, len(ratios), 1, height_ratios=ratios, sharex=True)
    *strip, latency, outcome = axes
    for marks in strip:
        draw_strip(marks, run)
    _percentile_lines(latency, run)
    _outcomes(outcome, run)
    for panel in (latency, outcome):
        shade(panel, run)
    outcome.set(xlabel="seconds since the run began", xlim=(0, run.length_s))
    return Chart(
        name="over-time",
        title="Over time",
        says=f"Percentiles of answers, and what became of the requests, by the time they were to "
        f"be sent, in windows of {run.window_s:g} s (with under a hundred answers in one, p99 is "
        "nearly its longest). Red: a fault lasted. The table has the figures of each.",
        figure=made,
        table=_marks_table(run),
    )


def _range_ms(runs: Sequence[Measured]) -> tuple[float, float]:
    both = np.concatenate([run.latency_ms[run.answered] for run in runs])
    low = max(float(both.min()), 0.05)
    return 0.9 * low, 1.1 * max(float(both.max()), 2 * low)


def _rank_lines(axes: Axes, run: Measured, colour: str, *, is_only: bool) -> None:
    answered = run.answered
    wanted, sent = np.sort(run.latency_ms[answered]), np.sort(run.since_sent_ms[answered])
    rarity = len(wanted) / (len(wanted) - np.arange(len(wanted)))  # 1 / share that is slower
    since = "since due" if is_only else run.label
    axes.plot(rarity, wanted, color=colour, label=since)
    axes.plot(rarity, sent, color=colour, linestyle=":", label="since sent" if is_only else None)


def _rank_axis(axes: Axes, num_answers: int) -> None:
    marks = [(1, "0"), (2, "50"), (10, "90"), (100, "99"), (1e3, "99.9"), (1e4, "99.99")]
    marks = [mark for mark in marks if mark[0] <= num_answers]
    axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel="milliseconds")
    axes.set_xticks([at for at, _ in marks], [name for _, name in marks])
    axes.xaxis.minorticks_off()
    style.plain_ticks(axes, y=True)


def _row(run: Measured) -> list[str]:
    answered = run.latency_ms[run.answered]
    figures = [ms(percentile(answered, percent)) for percent in _PERCENTS]
    return [run.label, *figures, ms(float(answered.max())), count(len(answered))]


def _percentile_lines(axes: Axes, run: Measured) -> None:
    by_window = _answered_by_window(run)
    for percent, (colour, dash) in _OVER_TIME.items():
        values = [percentile(each, percent) for each in by_window]
        x = run.window_starts_s + run.window_s / 2
        axes.plot(x, values, dash, color=colour, label=f"p{percent}", marker=".", markersize=3)
    if run.budget_ms:
        label = f"budget {run.budget_ms:g} ms"
        axes.axhline(run.budget_ms, color=style.RED, linewidth=1, label=label)
    axes.set(yscale="log", ylabel="milliseconds")
    style.plain_ticks(axes, y=True)
    style.legend_above(axes)


def _answered_by_window(run: Measured) -> list[Floats]:
    order = np.argsort(run.window[run.answered], kind="stable")
    windows = run.window[run.answered][order]
    bounds = np.searchsorted(windows, np.arange(1, len(run.window_starts_s)))
    return list(np.split(run.latency_ms[run.answered][order], bounds))


def _outcomes(axes: Axes, run: Measured) -> None:
    parts = {
        "whole, in time": (run.whole, style.GREEN),
        "cut short, in time": (run.in_time & ~run.whole, style.SAND),
        "late": (run.answered & ~run.in_time, style.PURPLE),
        "no answer": (~run.answered, style.RED),
    }
    parts = {name: part for name, part in parts.items() if part[0].any()}
    rates = [run.per_window(chosen) / run.window_s for chosen, _ in parts.values()]
    edges = np.append(run.window_starts_s, run.window_starts_s[-1] + run.window_s)
    below = np.zeros(len(run.window_starts_s))
    for name, each in zip(parts, rates, strict=True):
        axes.stairs(
            below + each, edges, baseline=below, fill=True, label=name, color=parts[name][1]
        )
        below = below + each
    axes.set(ylabel="requests/s", ylim=(0, None))
    style.legend_above(axes)


def _marks_table(run: Measured) -> Table:
    marks = [(f"{'fault' if m.is_fault else 'phase'}: {m.name}", m) for m in run.record.marks]
    rows = [_span_row("the whole run", run, 0.0, run.length_s)]
    rows += [_span_row(name, run, mark.at_s, mark.until_s) for name, mark in marks]
    columns = ["", "from s", "to s", "asked/s", "answered", "in time", "p50 ms", "p99 ms"]
    return Table(columns=columns, rows=rows)


def _span_row(name: str, run: Measured, start_s: float, end_s: float) -> list[str]:
    inside = (run.at_s >= start_s) & (run.at_s < end_s)
    answered = run.latency_ms[inside & run.answered]
    num_asked = int(inside.sum())
    return [
        name,
        *(rate(start_s), rate(end_s)),
        rate(num_asked / (end_s - start_s) if end_s > start_s else float("nan")),
        share(len(answered), num_asked),
        share(int((inside & run.in_time).sum()), num_asked),
        *(ms(percentile(answered, percent)) for percent in (50, 99)),
    ]
