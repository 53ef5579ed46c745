"""Owns `mfalcon serve`. Its flags are the fields of `Settings`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.flags import flags_of
from service.cli.output import note
from service.settings import Settings, load_settings


@flags_of(Settings, "given")
def serve(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Option(help="TOML file of settings")] = None,
) -> None:
    """Start the service.

    Settings: flag over MFALCON_* environment over --config file over default.
    """
    import uvicorn

    from model.checkpoint import load
    from service import connections, logs, tracing
    from service.app import create_app
    from service.preflight import check

    settings = load_settings(given, config)
    logs.configure(settings.log_format)
    check(settings)
    checkpoint = load(settings.checkpoint)
    effective = "  ".join(f"{name}={value}" for name, value in settings.masked().items())
    note(f"mfalcon settings: {effective}")
    uvicorn.run(
        create_app(settings, checkpoint, tracing.from_environment()),
        host=settings.host,
        port=settings.port,
        **connections.options(settings),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=30,
    )
