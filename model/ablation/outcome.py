"""Owns what is kept of a run that is done: its figures on the validation event, and its cost.

Never knows of the test event: nothing here asks for it, and a run's folder does not hold it.
"""

from dataclasses import dataclass

from model.ablation.grid import Run
from model.training.run_folder import RunError
from model.training.trainer import Trainer

MEASURE = "NDCG@10"
"""What epochs are chosen by, and so runs."""

FIGURES = ("HR@10", MEASURE, "HR@200")


@dataclass(frozen=True, slots=True)
class Outcome:
    variant: str
    seed: int
    figures: dict[str, float]  # of the best epoch
    best_epoch: int
    num_epochs: int
    num_parameters: int
    num_operations: int  # floating-point, of all epochs, see model.operations


def outcome_of(run: Run, trainer: Trainer) -> Outcome:
    """
    Raises:
        RunError: the record of the best epoch was lost.
    """
    best = [report for report in trainer.reports if report.epoch == trainer.best_epoch]
    if not best:
        raise RunError(
            f"{trainer.folder.path} lost its record of epoch {trainer.best_epoch}; delete the "
            "folder to train the run again"
        )
    return Outcome(
        variant=run.variant,
        seed=run.seed,
        figures={name: best[0].validation[name] for name in FIGURES},
        best_epoch=trainer.best_epoch,
        num_epochs=trainer.epoch,
        num_parameters=sum(parameter.numel() for parameter in trainer.network.parameters()),
        num_operations=trainer.epoch * trainer.operations_per_epoch(),
    )
