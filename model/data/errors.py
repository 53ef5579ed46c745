"""Owns the one error of this package. Never raises it."""


class DataError(Exception):
    """A data set can not be used; the message names the file, what is wrong and what to do."""
