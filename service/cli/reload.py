"""Owns `mfalcon reload`."""

import os
from typing import Annotated, Any

import httpx
import typer

from model.errors import InputError
from service.cli.output import Output, print_json, say

_CONNECT_S = 10.0


class ReloadRefused(InputError):
    """The service goes on with the checkpoint it has; the message says why."""


def reload(
    url: Annotated[str, typer.Option(help="of the service")] = "http://127.0.0.1:8000",
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="folder on the service's machine; left out: the one it serves, read again"
        ),
    ] = None,
    output: Output = "table",
) -> None:
    """Let a running service serve another checkpoint, without a request failing.

    The admin key comes from MFALCON_ADMIN_KEY. Returns once the new checkpoint is in use; until the
    old one's last request is answered, both are in memory.
    """
    key = os.environ.get("MFALCON_ADMIN_KEY", "")
    if not key:
        raise ReloadRefused("set MFALCON_ADMIN_KEY to the service's admin key")
    try:
        response = httpx.post(
            f"{url.rstrip('/')}/admin/reload",
            json={"checkpoint": checkpoint},
            headers={"X-API-Key": key},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ReloadRefused(f"--url: {url} gave no answer: {error}") from error
    answer = _object(response)
    if response.status_code != httpx.codes.OK:
        detail = answer.get("detail", "it gave no reason; is it an mfalcon service?")
        raise ReloadRefused(f"{url} answered {response.status_code}: {detail}")
    if output == "json":
        print_json(answer)
        return
    before, after = answer["previous"], answer["model"]
    say(
        f"{after['name']} ({after['fingerprint']}) in the place of {before['name']} "
        f"({before['fingerprint']}), after {answer['seconds']:.1f} s"
    )


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
