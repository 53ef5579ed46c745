"""Owns the one error of this package. Never raises it."""

from model.errors import InputError


class EvaluationError(InputError):
    """Data and checkpoint do not go together, or there is nothing to show; the message says why."""
