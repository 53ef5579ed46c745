"""Owns the pictures of an ablation: differences to the base, quality over size. Never computes."""

from collections.abc import Sequence
from pathlib import Path

from model.ablation.outcome import MEASURE
from model.ablation.power_law import PowerLaw
from model.ablation.summary import Row


def draw_differences(rows: Sequence[Row], path: Path) -> None:
    """Each variant's difference to the base, with two standard errors where there are seeds.

    Raises:
        OSError: `path` can not be written.
    """
    from matplotlib.figure import Figure

    variants = [row for row in rows if row.difference is not None]
    figure = Figure(figsize=(7, 1.4 + 0.32 * len(variants)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(variants):
        error = 2 * row.standard_error if row.standard_error is not None else 0
        axes.errorbar(row.difference or 0, place, xerr=error, fmt="o", color="tab:blue", capsize=3)
    axes.axvline(0, color="grey", linestyle=":")
    axes.set_yticks(range(len(variants)), [row.variant for row in variants])
    axes.invert_yaxis()
    axes.set(xlabel=f"{MEASURE} of the validation event, difference to the base")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def draw_scaling(
    rows: Sequence[Row], sizes: dict[str, list[float]], laws: dict[str, PowerLaw], path: Path
) -> None:
    """One panel for each of `sizes`, named lists of one number per row; both axes logarithmic.

    Raises:
        OSError: `path` can not be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(5 * len(sizes), 4), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    found = [row.figures[MEASURE] for row in rows]
    for axes, (name, values) in zip(panels, sizes.items(), strict=True):
        errors = [each.sd or 0 for each in found]
        means = [each.mean for each in found]
        axes.errorbar(values, means, yerr=errors, fmt="o", color="tab:blue", capsize=3)
        for row, x in zip(rows, values, strict=True):
            place = (x, row.figures[MEASURE].mean)
            axes.annotate(row.variant, place, xytext=(4, -10), textcoords="offset points", size=7)
        if name in laws:
            ends = [min(values), max(values)]
            label = f"to the power of {laws[name].exponent:.3f}, {laws[name].num_fitted} smallest"
            axes.plot(ends, [laws[name].at(x) for x in ends], color="black", ls=":", label=label)
            axes.legend()
        axes.set(xscale="log", yscale="log", xlabel=name, ylabel=f"{MEASURE}, validation")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        for of_level in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            of_level(StrMethodFormatter("{x:.2f}"))
        axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)
