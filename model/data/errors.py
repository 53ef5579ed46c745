"""Owns the one error of this package. Never raises it."""

from model.errors import InputError


class DataError(InputError):
    """A data set can not be used; the message names the file, what is wrong and what to do."""
