"""Where the time of an answer went: of the usual ones, and of the slowest.

Owns this chart. Stages are as the answers tell them; what they leave is named by where it passed.
"""

from collections.abc import Sequence

import numpy as np

from loadtests.record import Sample
from loadtests.report import style
from loadtests.report.chart import Chart, Table, count, ms
from loadtests.report.measured import Measured, is_answer

_WAITED, _OUTSIDE, _HANDLER = "waiting to be sent", "network and client", "rest of the handler"
_COLOURS = {
    _WAITED: style.RED,
    _OUTSIDE: style.GREY,
    _HANDLER: style.SAND,
    "queue": style.ORANGE,
    "cache": style.PURPLE,
    "encode": style.SKY,
    "score": style.BLUE,
}


def stages(run: Measured) -> Chart | None:
    """None if no answer told its stages."""
    told = [s for s in run.samples if is_answer(s) and "total" in s.timing_ms]
    if not told:
        return None
    bands = _bands(sorted(told, key=lambda sample: sample.latency_ms))
    means = {band: _mean_parts(samples) for band, samples in bands.items()}
    parts = _order({part for each in means.values() for part in each})
    made = style.figure(2.5)
    (axes,) = style.panels(made)
    left = np.zeros(len(bands))
    for place, part in enumerate(parts):
        widths = np.array([means[band].get(part, 0.0) for band in bands])
        colour = _COLOURS.get(part, style.SERIES[place % len(style.SERIES)])
        axes.barh(range(len(bands)), widths, left=left, height=0.62, color=colour, label=part)
        left = left + widths
    for place, length in enumerate(left):
        axes.text(length, place, f" {length:.1f} ms", va="center")
    axes.set_yticks(range(len(bands)), list(bands))
    axes.invert_yaxis()
    axes.set(xlabel="milliseconds, mean of the group", xlim=(0, 1.12 * left.max()))
    axes.grid(visible=False, axis="y")
    style.legend_above(axes, columns=4)
    return Chart(
        name="stages",
        title="Time by stage",
        says="What the answers say of their time, and the rest: in the handler outside any stage, "
        "beyond the service (network, its front door, the client), before the request was sent. "
        "Where the lowest bar is longer is what makes the slowest answers slow.",
        figure=made,
        table=Table(
            columns=["ms", *parts, "all", "answers"],
            rows=[
                [
                    band,
                    *(ms(means[band].get(part, 0.0)) for part in parts),
                    ms(sum(means[band].values())),
                    count(len(bands[band])),
                ]
                for band in bands
            ],
        ),
    )


def _bands(ascending: Sequence[Sample]) -> dict[str, Sequence[Sample]]:
    n = len(ascending)
    return {
        "all answers": ascending,
        "usual (p40 to p60)": ascending[int(0.4 * n) : int(0.6 * n) + 1],
        "slowest 1%": ascending[-max(n // 100, 1) :],
    }


def _mean_parts(samples: Sequence[Sample]) -> dict[str, float]:
    """They add up to the mean latency."""
    sums: dict[str, float] = {}
    for sample in samples:
        for part, spent_ms in _parts(sample).items():
            sums[part] = sums.get(part, 0.0) + spent_ms
    return {part: total / len(samples) for part, total in sums.items()}


def _parts(sample: Sample) -> dict[str, float]:
    own = {name: spent for name, spent in sample.timing_ms.items() if name != "total"}
    total = sample.timing_ms["total"]
    return {
        _WAITED: sample.waited_ms,
        _OUTSIDE: sample.latency_ms - sample.waited_ms - total,
        _HANDLER: total - sum(own.values()),
        **own,
    }


def _order(parts: set[str]) -> list[str]:
    return sorted(parts, key=lambda part: list(_COLOURS).index(part) if part in _COLOURS else 99)
