"""Owns how far a served logit may be from the oracle's, by the numbers it was made with.

Never measures; `service.verification` does, and `service.shadow` on live answers.
"""

from dataclasses import dataclass
from typing import Literal

from cache import Dtype
from service.row_format import ROUNDING

TOLERANCE = 1e-5
"""Largest difference to the oracle allowed in float32, on logits."""

_ROUNDINGS = 4
"""How many times the rounding of a stored number a logit may be off, as a share of the largest
logit. Each layer reads rounded numbers once, whatever the number of appends, and its norms keep
errors relative, so the error does not grow with the history. Measured over all presets, imported
formats and both bundled checkpoints of up to 8 layers: up to 1.6; over all 6,040 users of
MovieLens 1M (`mfalcon bench state --data`): up to 3.7, int8."""

PRODUCT_TOLERANCE = 8 * ROUNDING[Dtype.BFLOAT16]
"""Largest difference, in shares of the largest logit, where products are of bfloat16 as well.
Beside K and V, each layer rounds what goes into its two projections, its queries and its weights.
Measured: 1.5 roundings on the bundled checkpoints, up to 5 on small networks of large weights."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """In units of logits, or in shares of the largest logit of its kind among all users."""

    difference: float = TOLERANCE
    unit: Literal["logits", "largest logit"] = "logits"

    @classmethod
    def of(cls, dtype: str, store_dtype: str) -> "Allowed":
        """For a service of these settings; what rounds twice may be off by both."""
        in_products = PRODUCT_TOLERANCE if dtype == "bfloat16" else 0.0
        in_store = 0.0 if store_dtype == dtype else relative_tolerance(Dtype.named(store_dtype))
        share = in_products + in_store
        return cls(share, "largest logit") if share else cls()


def relative_tolerance(dtype: Dtype) -> float:
    """Largest difference to the oracle from states stored in `dtype`, in shares of the largest
    logit."""
    return _ROUNDINGS * ROUNDING[dtype]
