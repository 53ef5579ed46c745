"""Owns the record of a run: one line of figures per epoch, and their picture.

Never decides anything: training reads none of it back but what it wrote itself.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

FIGURES, PICTURE = "metrics.jsonl", "curve.png"


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One epoch; `validation` is empty where none was made."""

    epoch: int
    loss: float  # mean of the steps' losses, nats
    validation: dict[str, float]
    improved: bool
    seconds: float = field(default=0.0, compare=False)  # of training alone


def write(run: Path, reports: list[EpochReport]) -> None:
    """The whole record, written beside and renamed."""
    lines = [
        json.dumps(
            {
                "epoch": report.epoch,
                "loss": report.loss,
                "seconds": round(report.seconds, 3),
                "improved": report.improved,
                "validation": report.validation,
            }
        )
        for report in reports
    ]
    new = run / f"{FIGURES}.new"
    new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    new.rename(run / FIGURES)


def read(run: Path, num_epochs: int) -> list[EpochReport]:
    """The first `num_epochs` reports; fewer if the record was lost."""
    try:
        lines = (run / FIGURES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [EpochReport(**json.loads(line)) for line in lines[:num_epochs]]


def draw(run: Path, reports: list[EpochReport]) -> Path:
    """The loss and, where there is one, the validation over the epochs, as a PNG."""
    from matplotlib.figure import Figure

    validated = [report for report in reports if report.validation]
    columns = 2 if validated else 1
    figure = Figure(figsize=(4.5 * columns, 3.6), layout="constrained")
    left, *right = figure.subplots(1, columns, squeeze=False)[0]
    left.plot([r.epoch for r in reports], [r.loss for r in reports], color="tab:blue")
    left.set(title="training loss", xlabel="epoch", ylabel="nats")
    for axes in right:
        for name in ("HR@10", "NDCG@10"):
            values = [report.validation[name] for report in validated]
            axes.plot([r.epoch for r in validated], values, marker="o", markersize=3, label=name)
        for best in [report for report in validated if report.improved][-1:]:
            axes.axvline(best.epoch, color="grey", linestyle=":", label="best epoch")
        axes.legend()
        axes.set(title="validation, leave one out", xlabel="epoch", ylim=(0, None))
    for axes in (left, *right):
        axes.grid(alpha=0.3)
    figure.savefig(run / PICTURE, dpi=120)
    return run / PICTURE
