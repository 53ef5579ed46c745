"""Owns the reliability diagram: what was predicted against what happened. Never computes bins."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from model.evaluation.errors import EvaluationError
from model.evaluation.metrics import ActionQuality, TaskQuality

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(series: Mapping[str, dict[str, TaskQuality]], path: Path) -> None:
    """One panel per action, one line per series; the closer to the diagonal, the better calibrated.

    The area of a point is the share of events whose prediction fell in its bin.

    Args:
        series: the tasks' figures of the same events by name, such as before and after

    Raises:
        EvaluationError: no action was predicted.
        OSError: `path` can not be written.
    """
    from matplotlib.figure import Figure

    panels = [
        (task, action)
        for task, quality in next(iter(series.values())).items()
        for action in quality.actions
    ]
    if not panels:
        raise EvaluationError("no action was predicted; there is nothing to draw")
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (task, action) in zip(grid.flat, panels, strict=False):
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
        for name, tasks in series.items():
            _line(axes, name, tasks[task].actions[action])
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="predicted", ylabel="observed")
        axes.set_title(f"{task}: {action}", fontsize=10)
        axes.legend(title="calibration error", fontsize=8, title_fontsize=8, loc="upper left")
    figure.savefig(path, dpi=120)


def _line(axes: "Axes", name: str, found: ActionQuality) -> None:
    total = sum(each.count for each in found.bins)
    predicted = [each.predicted for each in found.bins]
    observed = [each.observed for each in found.bins]
    sizes = [20 + 380 * each.count / total for each in found.bins]
    label = f"{name} {found.calibration_error:.3f}".strip()
    (line,) = axes.plot(predicted, observed, linewidth=1, label=label)
    axes.scatter(predicted, observed, s=sizes, color=line.get_color(), alpha=0.6, linewidths=0)
