"""Requests without an answer, and answers that left something out, by their reason.

Owns this chart. Never decides how many are too many.
"""

from collections import Counter

from matplotlib.ticker import MaxNLocator

from loadtests.record import Sample
from loadtests.report import style
from loadtests.report.chart import Chart, Table, count, share
from loadtests.report.measured import Measured, is_answer


def failures(run: Measured) -> Chart | None:
    """None if every request was answered whole."""
    failed = Counter(_reason(sample) for sample in run.samples if not is_answer(sample))
    degraded = Counter(reason for sample in run.samples for reason in sample.degraded)
    bars = [(reason, num, style.RED) for reason, num in failed.most_common()]
    bars += [(reason, num, style.SAND) for reason, num in degraded.most_common()]
    if not bars:
        return None
    made = style.figure(0.9 + 0.32 * len(bars))
    (axes,) = style.panels(made)
    kinds = {style.RED: "no answer", style.SAND: "answered, and degraded by"}
    for place, (_, num, colour) in enumerate(bars):
        axes.barh(place, num, color=colour, height=0.64, label=kinds.pop(colour, None))
        axes.text(num, place, f" {num:,} ({share(num, len(run.samples))})", va="center")
    axes.set_yticks(range(len(bars)), [reason for reason, _, _ in bars])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="requests", xlim=(0, 1.2 * max(num for _, num, _ in bars)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend_above(axes)
    return Chart(
        name="failures",
        title="Failures and what was left out",
        says="Requests without an answer by status and code (429 overloaded: refused before any "
        "work was done), and answers that say what they left out. One answer may give several "
        "reasons; no_history is a new user, whose answer is complete.",
        figure=made,
        table=Table(
            columns=["", "requests", "share"],
            rows=[[reason, count(num), share(num, len(run.samples))] for reason, num, _ in bars],
        ),
    )


def _reason(sample: Sample) -> str:
    """The status, and the code if it says more."""
    code = "" if sample.code == str(sample.status) else sample.code
    return f"{sample.status or 'no answer'} {code}".strip()
