"""Owns the exit codes of the commands; 0: all is well."""

from typing import Final

FAILED: Final = 1
"""A run, or a bound of it."""
UNUSABLE: Final = 2
"""What was given."""
NOT_JUDGED: Final = 3
"""Nothing failed, and something could not be judged: it has to be done again."""
