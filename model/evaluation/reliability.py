"""Owns the reliability diagram: what was predicted against what happened. Never computes bins."""

from pathlib import Path

from model.evaluation.errors import EvaluationError
from model.evaluation.metrics import TaskQuality


def draw(tasks: dict[str, TaskQuality], path: Path) -> None:
    """One panel per action; the closer to the diagonal, the better calibrated.

    The area of a point is the share of events whose prediction fell in its bin.

    Raises:
        EvaluationError: no action was predicted.
        OSError: `path` can not be written.
    """
    from matplotlib.figure import Figure

    panels = [
        (f"{task}: {action}", found)
        for task, quality in tasks.items()
        for action, found in quality.actions.items()
    ]
    if not panels:
        raise EvaluationError("no action was predicted; there is nothing to draw")
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, found) in zip(grid.flat, panels, strict=False):
        total = sum(each.count for each in found.bins)
        predicted = [each.predicted for each in found.bins]
        observed = [each.observed for each in found.bins]
        sizes = [20 + 380 * each.count / total for each in found.bins]
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
        axes.plot(predicted, observed, color="tab:blue", linewidth=1)
        axes.scatter(predicted, observed, s=sizes, color="tab:blue", alpha=0.6)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="predicted", ylabel="observed")
        axes.set_title(f"{title}\ncalibration error {found.calibration_error:.3f}", fontsize=10)
    figure.savefig(path, dpi=120)
