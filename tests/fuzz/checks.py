"""Owns what every answer is checked for beside Schemathesis' own checks: nothing internal in it.

Schemathesis loads it by SCHEMATHESIS_HOOKS.
"""

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

_INTERNALS = ("Traceback", 'File "', "site-packages", ".py:", "/home/", "/root/", "0x7f")


@schemathesis.check
def no_internals(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """No traceback, path or address; the schema's own pages are not looked at."""
    del context, case
    text = response.text
    found = [mark for mark in _INTERNALS if mark in text]
    assert not found, f"the answer shows internals: {found}"
