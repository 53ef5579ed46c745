"""Owns `mfalcon serve`. Its flags are the fields of `Settings`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.flags import flags_of
from service.cli.output import note
from service.configuration import load_settings, printable
from service.settings import Settings
from service.variables import unread


@flags_of(Settings, "given")
def serve(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Option(help="TOML file of settings")] = None,
) -> None:
    """Start the service.

    It listens at once, and is ready when the checkpoint is loaded and warmed up. SIGTERM ends it
    once what was asked is answered and stored.

    Settings: flag over MFALCON_* environment over --config file over default.
    """
    from service import logs, tracing
    from service.app import create_app
    from service.preflight import check
    from service.server import Server, listener

    sys.stderr = logs.Unfailing(sys.stderr)
    settings = load_settings(given, config)
    logs.configure(settings.log_format)
    check(settings)
    effective = "  ".join(f"{name}={value}" for name, value in printable(settings).items())
    note(f"mfalcon settings: {effective}")
    for warning in unread(os.environ, Settings.model_fields):
        note(f"mfalcon: {warning}")
    app = create_app(settings, tracing.from_environment())
    Server(app, settings).run([listener(settings.host, settings.port)])
    if failure := app.state.runtime.failure:
        raise failure
