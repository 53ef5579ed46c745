"""Owns what a run is made of: a preset at a size, fields set apart, and how it is trained.

Never trains. `mfalcon train` takes it as flags, a grid as lines of a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from model.config import HSTUConfig
from model.errors import InputError, problems
from model.presets import PRESETS
from model.training.options import TrainingOptions

if TYPE_CHECKING:
    from model.data.interactions import Interactions


class RecipeError(InputError):
    """A run can not be made so; the message names what of it is wrong."""


class Shape(BaseModel):
    """A preset at a size."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    preset: str = Field(default="native", description="formulation; see model/presets.py")
    window: int | None = Field(
        default=None, ge=2, description="events of a full window; its newest 3/4 are kept"
    )
    d_model: int = Field(default=64, ge=1, description="model width")
    layers: int = Field(default=4, ge=1, description="blocks, one above the other")
    heads: int = Field(default=2, ge=1, description="attention heads")
    head_dim: int = Field(default=32, ge=1, description="width per head, q, k and v")
    dropout: float = Field(default=0.2, ge=0, le=0.95, description="while training")

    @field_validator("preset")
    @classmethod
    def _is_one(cls, preset: str) -> str:
        if preset not in PRESETS:
            raise ValueError(f"no {preset}; there are {', '.join(PRESETS)}")
        return preset

    @property
    def fields(self) -> dict[str, Any]:
        """As a preset takes them."""
        fields: dict[str, Any] = {
            "d_model": self.d_model,
            "num_layers": self.layers,
            "num_heads": self.heads,
            "qk_dim": self.head_dim,
            "v_dim": self.head_dim,
            "dropout": self.dropout,
        }
        return fields if self.window is None else fields | {"max_length": self.window}


@dataclass(frozen=True)
class Recipe:
    shape: Shape
    options: TrainingOptions
    fields: Mapping[str, Any] = field(default_factory=dict)  # of the configuration, set apart

    def config(self, data: "Interactions") -> HSTUConfig:
        """The network's; only `native` takes the data's actions by itself.

        Raises:
            RecipeError: an impossible value; the message names the field.
        """
        asked, options = self.shape.fields, self.options
        if self.shape.preset == "native":
            asked["tasks"] = data.tasks if options.action_weight else ()
        try:
            config = PRESETS[self.shape.preset](len(data.items), **(asked | dict(self.fields)))
        except ValidationError as error:
            named = (f"{where or 'sizes'}: {what}" for where, what in problems(error))
            raise RecipeError(f"configuration: {'; '.join(named)}") from error
        if config.repeat_bias and (options.loss, options.negatives) != ("full", "all"):
            raise RecipeError("repeat_bias: is learnt with --loss full and --negatives all alone")
        return config
