"""What more requests a second do: to the slowest answers, and to how many come in time.

Owns these two charts. A point is a phase of a run, or a run without phases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from loadtests.record import Mark
from loadtests.report import style
from loadtests.report.chart import Chart, Table, ms, rate, share
from loadtests.report.measured import Measured, percentile

_LEAST_SAMPLES = 20
"""A phase with fewer requests says nothing about a 99th percentile."""

_SEPARATE = "runs of one rate"


@dataclass(frozen=True, slots=True)
class Point:
    """One rate that was offered."""

    name: str
    offered_per_s: float
    in_time_per_s: float
    whole_per_s: float
    p50_ms: float
    p99_ms: float
    had_fault: bool


def points_of(run: Measured) -> list[Point]:
    """By rising rate."""
    spans = run.phases or [Mark(at_s=0, until_s=run.length_s, name=run.label)]
    points = [_point(run, span) for span in spans if run.during(span).sum() >= _LEAST_SAMPLES]
    return sorted(points, key=lambda point: point.offered_per_s)


def rate_against_p99(runs: Sequence[Measured]) -> Chart | None:
    """None unless several rates were offered."""
    curves = _curves(runs)
    if curves is None:
        return None
    made = style.figure(3.4)
    (axes,) = style.panels(made)
    for place, (label, points) in enumerate(curves.items()):
        colour = style.SERIES[place % len(style.SERIES)]
        offered = [point.offered_per_s for point in points]
        own = "" if len(curves) == 1 else f"{label}: "
        solid, dotted = _looks(label)
        axes.plot(offered, [p.p99_ms for p in points], solid, color=colour, label=f"{own}p99")
        axes.plot(offered, [p.p50_ms for p in points], dotted, color=colour, label=f"{own}p50")
        _ring_faults(axes, points, [point.p99_ms for point in points])
    for budget in {run.budget_ms for run in runs if run.budget_ms}:
        axes.axhline(budget, color=style.RED, linewidth=1, label=f"budget {budget:g} ms")
    axes.set(yscale="log", ylabel="milliseconds", xlabel="requests offered a second")
    axes.set_xlim(left=0)
    style.plain_ticks(axes, y=True)
    style.legend_over_all(made, axes, columns=3 if len(curves) > 1 else 6)
    return Chart(
        name="rate-p99",
        title="Rate against latency",
        says="Percentiles of answers at each rate that was offered. Where p99 leaves the floor the "
        "service begins to queue; where it crosses the budget is the most it can be asked. A red "
        "ring: a fault lasted meanwhile.",
        figure=made,
        table=_table(curves),
    )


def goodput(runs: Sequence[Measured]) -> Chart | None:
    """None unless several rates were offered."""
    curves = _curves(runs)
    if curves is None:
        return None
    made = style.figure(3.4)
    (axes,) = style.panels(made)
    most = max(point.offered_per_s for points in curves.values() for point in points)
    axes.plot([0, most], [0, most], color=style.GREY, linewidth=1, label="all that is offered")
    for place, (label, points) in enumerate(curves.items()):
        colour = style.SERIES[place % len(style.SERIES)]
        offered = [point.offered_per_s for point in points]
        own = "" if len(curves) == 1 else f"{label}: "
        in_time, whole = [p.in_time_per_s for p in points], [p.whole_per_s for p in points]
        solid, dotted = _looks(label)
        axes.plot(offered, in_time, solid, color=colour, label=f"{own}in time")
        axes.plot(offered, whole, dotted, color=colour, label=f"{own}whole and in time")
        _ring_faults(axes, points, in_time)
    axes.set(xlabel="requests offered a second", ylabel="answers a second")
    axes.set(xlim=(0, None), ylim=(0, None))
    style.legend_over_all(made, axes, columns=2 if len(curves) > 1 else 3)
    return Chart(
        name="goodput",
        title="Goodput",
        says="Answers within the budget a second, against what was offered. On the grey line every "
        "request is answered in time. A service that sheds load well levels off; one that falls "
        "spends its time on answers that come too late.",
        figure=made,
        table=_table(curves),
    )


def _point(run: Measured, span: Mark) -> Point:
    inside, length_s = run.during(span), span.until_s - span.at_s
    answered = run.latency_ms[inside & run.answered]
    faults = run.faults
    return Point(
        name=span.name,
        offered_per_s=inside.sum() / length_s,
        in_time_per_s=(inside & run.in_time).sum() / length_s,
        whole_per_s=(inside & run.whole).sum() / length_s,
        p50_ms=percentile(answered, 50),
        p99_ms=percentile(answered, 99),
        had_fault=any(f.at_s < span.until_s and span.at_s < f.until_s for f in faults),
    )


def _curves(runs: Sequence[Measured]) -> dict[str, list[Point]] | None:
    """Runs that offered several rates each have a curve; those of one rate are points together."""
    by_run = {run.label: points_of(run) for run in runs}
    curves = {label: points for label, points in by_run.items() if len(points) > 1}
    single = [point for points in by_run.values() if len(points) == 1 for point in points]
    if len(single) > 1:
        curves[_SEPARATE] = sorted(single, key=lambda point: point.offered_per_s)
    return curves or None


def _looks(label: str) -> tuple[str, str]:
    """Of the two lines of a curve. What runs of one rate saw is not joined: more than the rate may
    be different between them."""
    return ("o", "v") if label == _SEPARATE else ("o-", "o:")


def _ring_faults(axes: Axes, points: Sequence[Point], heights: Sequence[float]) -> None:
    rings = [(p.offered_per_s, y) for p, y in zip(points, heights, strict=True) if p.had_fault]
    if rings:
        x, y = zip(*rings, strict=True)
        axes.scatter(x, y, s=90, facecolors="none", edgecolors=style.RED, linewidths=1.2, zorder=3)


def _table(curves: dict[str, list[Point]]) -> Table:
    columns = ["", "offered/s", "in time/s", "in time", "whole/s", "p50 ms", "p99 ms"]
    rows = [
        [
            f"{label}: {point.name}" if len(curves) > 1 else point.name,
            rate(point.offered_per_s),
            rate(point.in_time_per_s),
            share(point.in_time_per_s, point.offered_per_s),
            rate(point.whole_per_s),
            ms(point.p50_ms),
            ms(point.p99_ms),
        ]
        for label, points in curves.items()
        for point in points
    ]
    return Table(columns=columns, rows=rows)
