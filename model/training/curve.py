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
    """The loss and the validation figures over the epochs, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [report.epoch for report in reports]
    left.plot(epochs, [report.loss for report in reports], color="tab:blue")
    left.set(title="training loss", xlabel="epoch", ylabel="nats")
    validated = [report for report in reports if report.validation]
    for name in ("HR@10", "NDCG@10"):
        values = [report.validation[name] for report in validated]
        right.plot([r.epoch for r in validated], values, marker="o", markersize=3, label=name)
    best = [report for report in validated if report.improved]
    if best:
        right.axvline(best[-1].epoch, color="grey", linestyle=":", label="best epoch")
        right.legend()
    title = "validation, leave one out" if validated else "no event was kept to validate on"
    right.set(title=title, xlabel="epoch", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(run / PICTURE, dpi=120)
    return run / PICTURE
