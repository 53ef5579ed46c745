"""Owns the calibration of a checkpoint: what makes probabilities of action logits come true.

Never fits it; `model.evaluation.calibrate` does. It is no part of the fingerprint: neither K and V
nor logits depend on it, so that a checkpoint calibrated anew finds the states it had.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class Calibration(BaseModel):
    """scale * logit + bias, for each action. A scale is positive: no logit is turned round."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    scale: tuple[Annotated[float, Field(gt=0)], ...]
    bias: tuple[float, ...]

    def __call__(self, logits: Tensor) -> Tensor:
        """(..., actions) -> the same shape."""
        return logits * logits.new_tensor(self.scale) + logits.new_tensor(self.bias)
