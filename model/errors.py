"""Owns what all refusals of given things have in common. Never raises one itself."""

from collections.abc import Iterator

from pydantic import ValidationError


class InputError(Exception):
    """What was given can not be used; the message names it and says what to do.

    A program prints the message alone: a traceback would tell a person nothing more.

        InputError
        |-- CheckpointError   a checkpoint folder       (model.checkpoint)
        |-- DataError         a data set                (model.data.errors)
        |-- EvaluationError   data and checkpoint       (model.evaluation.errors)
        |-- ImportFailed      a foreign checkpoint      (model.importers.weights)
        |-- RunError          a training run            (model.training.run_folder)
        |-- FeatureError      what items share          (model.training.features)
        |-- RecipeError       what a run is made of     (model.training.recipe)
        |-- GridError         an ablation's file        (model.ablation.grid)
        |-- FlagError         a flag of a command       (service.cli.flags)
        |-- SettingsError     a setting of the service  (service.settings)
        |-- StoreAway         a store that is asked     (service.cli.opened_store)
        |-- ReloadRefused     a running service         (service.cli.reload)
        |-- CostsError        costs to plan with        (service.planning.costs)
        |-- RecToolsMissing   a peer to measure against (service.benchmark.peers.rectools_model)
        `-- EmbeddedUnavailable  the embedded Valkey    (service.embedded)
    """


def problems(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Of each wrong value: where it is, dotted, empty for the whole; and what is wrong."""
    for found in error.errors():
        where = ".".join(str(part) for part in found["loc"])
        yield where, found["msg"].removeprefix("Value error, ")
