"""Owns the picture of the engine's passes beside their floors, and of how cost grows.

Never measures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.benchmark.engine.measure import EngineMeasurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 0.26


def draw(found: Sequence[EngineMeasurement], path: Path) -> None:
    """A row of panels for each shape.

    Raises:
        OSError: `path` can not be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.8 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 3, squeeze=False)
    for (passes, candidates, history), each in zip(panels, found, strict=True):
        _passes(passes, each)
        _growth(candidates, each, ["score over candidates"], "candidates")
        _growth(history, each, ["score over history", "extend over history"], "events")
    figure.savefig(path, dpi=110)


def _passes(axes: "Axes", found: EngineMeasurement) -> None:
    """Milliseconds a user, by batch size; a black line is the floor."""
    sizes = sorted({timing.num_users for timing in found.timings if timing.name == "score"})
    names = list(dict.fromkeys(timing.name for timing in found.timings))
    names = [name for name in names if not name.startswith(("request,", "requests"))]
    for place, size in enumerate(sizes):
        timings = [t for t in found.timings if t.num_users == size and t.name in names]
        at = [names.index(t.name) + (place - (len(sizes) - 1) / 2) * _WIDTH for t in timings]
        axes.bar(at, [t.median_ms / size for t in timings], _WIDTH * 0.9, label=f"{size} at once")
        floors = [t.floor_ms / size for t in timings]
        left, right = ([x + side * _WIDTH * 0.45 for x in at] for side in (-1, 1))
        axes.hlines(floors, left, right, color="black", label="" if place else "floor")
    axes.set(yscale="log", ylabel="milliseconds a user")
    axes.set_ylim(top=axes.get_ylim()[1] * 8)  # room for the legend
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_title(f"{found.shape.name}: {found.shape.title}", fontsize=10)
    axes.legend(fontsize=8, ncols=4, loc="upper center")
    axes.grid(alpha=0.3, axis="y")


def _growth(axes: "Axes", found: EngineMeasurement, names: Sequence[str], unit: str) -> None:
    """Measured points, and through the last of them what linear growth would be."""
    for name in names:
        curve = found.curves[name]
        label = f"{name}: exponent {curve.exponent:.2f}"
        axes.plot(curve.sizes, curve.median_ms, marker="o", label=label)
        linear = [curve.median_ms[-1] * size / curve.sizes[-1] for size in curve.sizes]
        axes.plot(curve.sizes, linear, color="grey", linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel=unit, ylabel="milliseconds (dotted: linear)")
    axes.set_xticks(curve.sizes, [str(size) for size in curve.sizes], fontsize=8)
    axes.xaxis.minorticks_off()
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
