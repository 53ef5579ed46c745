"""Owns how sure a mean over events is, where those of one user go together."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float
    error: float  # standard error

    @classmethod
    def of(cls, terms: Tensor, users: Tensor) -> "Estimate":
        """The mean of terms (N,) of events of `users` (N,)."""
        mean = terms.mean()
        _, user = users.unique(return_inverse=True)
        sums = terms.new_zeros(int(user.max()) + 1).index_add(0, user, terms - mean)
        return cls(float(mean), float(sums.norm()) / len(terms))
