"""Owns the grid file: what all runs share, what each variant changes, over which seeds.

Never trains. A file says it all, so that what was tried can be committed and read.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.errors import InputError, problems
from model.training.options import TrainingOptions
from model.training.recipe import Recipe, Shape

BASE = "base"
_FIELDS = "set"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class GridError(InputError):
    """A grid file can not be run; the message names the variant and what is wrong with it."""


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: str
    recipe: Recipe

    @property
    def seed(self) -> int:
        return self.recipe.options.seed

    def folder(self, out: Path) -> Path:
        return out / self.variant / f"seed-{self.seed}"


class Grid(BaseModel):
    """Options are those of `mfalcon train`, `set` the fields of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    question: str = Field(min_length=1, description="what the grid is to settle")
    picture: Literal["differences", "scaling"] = Field(
        default="differences",
        description="differences: of each variant to the base; scaling: of quality with operations "
        "and parameters, with a power law",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    base: dict[str, Any] = Field(default_factory=dict, description="of all runs")
    variants: dict[Name, dict[str, Any]] = Field(description="what each has in the base's place")

    @model_validator(mode="after")
    def _consistent(self) -> "Grid":
        if BASE in self.variants:
            raise ValueError(f"variants: {BASE} is the name of the base; choose another")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one appears twice")
        return self

    def runs(self) -> list[Run]:
        """Seed by seed, so that every variant has one before any has two.

        Raises:
            GridError: a variant asks for what there is not.
        """
        asked = {BASE: self.base} | {
            name: _merged(self.base, own) for name, own in self.variants.items()
        }
        return [
            Run(name, _recipe(name, options, seed))
            for seed in self.seeds
            for name, options in asked.items()
        ]


def read(path: Path) -> Grid:
    """
    Raises:
        GridError: not TOML, or not a grid.
        OSError: the file can not be read.
    """
    try:
        return Grid.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        named = "; ".join(f"{where}: {what}" for where, what in problems(error))
        raise GridError(f"{path}: {named}") from error
    except ValueError as error:
        raise GridError(f"{path} is not TOML: {error}") from error


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    fields = {_FIELDS: base.get(_FIELDS, {}) | own.get(_FIELDS, {})}
    return {**base, **own, **fields}


def _recipe(name: str, asked: Mapping[str, Any], seed: int) -> Recipe:
    sizes = {key: value for key, value in asked.items() if key in Shape.model_fields}
    rest = {key: v for key, v in asked.items() if key not in sizes and key != _FIELDS}
    if "seed" in rest:
        raise GridError(f"{name}: seed: seeds are told once, in `seeds`")
    try:
        options = TrainingOptions.model_validate(rest | {"seed": seed})
        shape = Shape.model_validate(sizes)
    except ValidationError as error:
        named = "; ".join(f"{where}: {what}" for where, what in problems(error))
        raise GridError(f"{name}: {named}") from error
    if options.num_held_out < 2:
        raise GridError(f"{name}: num_held_out: with 1 there is no event to compare runs on")
    return Recipe(shape, options, asked.get(_FIELDS, {}))
