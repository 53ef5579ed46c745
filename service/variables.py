"""Owns noticing MFALCON_* variables that no setting reads: most likely a name that was misspelt."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

_PREFIX: Final = "MFALCON_"
_OURS: Final = "MFALCON_TEST_"


def unread(environment: Mapping[str, str], settings: Iterable[str]) -> list[str]:
    """What to tell of each variable that is set in vain. Values are not quoted.

    They are no errors: Kubernetes sets such variables for a service that is called mfalcon.
    """
    known = {_PREFIX + name.upper() for name in settings}
    told = []
    for name in sorted(environment):
        if not name.startswith(_PREFIX) or name.startswith(_OURS) or name in known:
            continue
        (*_, nearest) = ("", *get_close_matches(name, known, n=1, cutoff=0.8))
        hint = f"; did you mean {nearest}?" if nearest else ""
        told.append(f"{name} is set, and is no setting{hint}")
    return told
