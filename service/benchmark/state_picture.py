"""Owns the picture of fetching a state against encoding it anew. Never measures."""

from collections.abc import Sequence
from pathlib import Path

from service.benchmark.state_cost import StateCost


def draw(costs: Sequence[StateCost], path: Path) -> None:
    """One panel per shape: milliseconds over the length of the history, both axes logarithmic.

    Raises:
        OSError: `path` can not be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(costs), 4.2), layout="constrained")
    panels = figure.subplots(1, len(costs), squeeze=False)[0]
    for axes, cost in zip(panels, costs, strict=True):
        lengths = [point.num_events for point in cost.points]
        recompute = [point.recompute_ms for point in cost.points]
        axes.plot(lengths, recompute, color="black", marker="o", label="encode anew")
        for dtype in cost.bytes:
            fetch = [point.fetch_ms[dtype] for point in cost.points]
            axes.plot(lengths, fetch, marker=".", label=f"fetch {dtype}")
        axes.set(xscale="log", yscale="log", xlabel="events", ylabel="milliseconds")
        axes.set_title(f"{cost.shape.name}: {cost.shape.title}", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(path, dpi=120)
