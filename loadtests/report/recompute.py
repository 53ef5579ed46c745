"""mfalcon against a service that keeps no states, from what `mfalcon bench recompute` printed.

Owns reading that JSON and its chart. Never measures.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.record import RecordError
from loadtests.report import style
from loadtests.report.chart import Chart, Table, ms, rate

_LABELS = {"mfalcon": "mfalcon", "recompute": "recomputing each request"}


def load_contest(path: Path) -> dict[str, Any]:
    """
    Raises:
        RecordError: it is not what `mfalcon bench recompute --output json` prints.
    """
    try:
        contest: dict[str, Any] = json.loads(path.read_text())
        if set(contest["figures"]) != set(_LABELS):
            raise ValueError(f"figures of {sorted(contest['figures'])}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        told = "is this what `mfalcon bench recompute --output json` printed?"
        raise RecordError(f"{path}: {error}; {told}") from error
    return contest


def recompute(contest: dict[str, Any]) -> Chart:
    """Answers in time by load, and the median latency."""
    figures, shape, setting = contest["figures"], contest["shape"], contest["setting"]
    loads = list(figures["mfalcon"])
    made = style.figure(3.4)
    in_time, latency = style.panels(made, 1, 2)
    x = np.arange(len(loads))
    looks = {"mfalcon": (style.GREEN, "o"), "recompute": (style.ORANGE, "s")}
    for side, (service, (colour, marker)) in enumerate(looks.items()):
        at, own = x + (side - 0.5) * 0.4, figures[service]
        values = [own[load]["within_per_s"] for load in loads]
        in_time.bar(at, values, 0.38, color=colour, label=_LABELS[service])
        medians = [own[load]["p50_ms"] or np.nan for load in loads]
        latency.plot(x, medians, marker, color=colour, markersize=7)  # a log axis has no zero
    latency.axhline(setting["budget_ms"], color=style.RED, linewidth=1)
    in_time.set(title="answers in time a second")
    latency.set(title="median latency, ms (red: the budget)", yscale="log")
    style.plain_ticks(latency, y=True)
    for axes in (in_time, latency):
        axes.set_xticks(x, [load.replace(" ", "\n", 1) for load in loads], fontsize=8)
        axes.grid(visible=False, axis="x")
    style.legend_over_all(made, in_time)
    columns = ["load", "service", "whole/s", "in time/s", "p50 ms", "p99 ms"]
    rows = [
        [
            load,
            _LABELS[service],
            rate(own[load]["whole_per_s"]),
            rate(own[load]["within_per_s"]),
            *(ms(own[load][name]) for name in ("p50_ms", "p99_ms")),
        ]
        for load in loads
        for service, own in figures.items()
    ]
    return Chart(
        name="recompute",
        title="Against recomputing",
        says=f"The same returning users' requests on the same machine, in turns: "
        f"{shape['num_events']} events, {shape['num_candidates']} candidates, "
        f"{setting['budget_ms']:g} ms ({contest['machine']}, commit {contest['commit']}). The "
        "other service keeps no states. No bar or point: none.",
        figure=made,
        table=Table(columns=columns, rows=rows),
    )
