"""Owns `mfalcon serve`. Its flags are the fields of `Settings`, so that the two cannot differ."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from rich.console import Console

from service.settings import Settings, load_settings


def _with_settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one flag per setting; only the flags given reach it."""
    parameters = [
        inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Path | None, typer.Option(help="TOML file of settings")],
        )
    ]
    for name, field in Settings.model_fields.items():
        kind = str if get_origin(field.annotation) is Literal else field.annotation
        choices = (
            f" [{'|'.join(get_args(field.annotation))}]" if kind is not field.annotation else ""
        )
        help_text = f"{field.description}{choices} (default: {field.default})"
        option = typer.Option(f"--{name.replace('_', '-')}", help=help_text, show_default=False)
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind | NoneType, option],
            )
        )

    @functools.wraps(command)
    def run(config: Path | None = None, **flags: Any) -> None:
        command(config, **{name: value for name, value in flags.items() if value is not None})

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@_with_settings_flags
def serve(config: Path | None, **flags: Any) -> None:
    """Start the service.

    Settings: flag over MFALCON_* environment over --config file over default.
    """
    import uvicorn

    from model.checkpoint import load
    from service import logs
    from service.app import create_app
    from service.preflight import check

    settings = load_settings(flags, config)
    logs.configure(settings.log_format)
    check(settings)
    checkpoint = load(settings.checkpoint)
    effective = "  ".join(f"{name}={value}" for name, value in settings.masked().items())
    Console(stderr=True).print(
        f"mfalcon settings: {effective}", highlight=False, markup=False, soft_wrap=True
    )
    uvicorn.run(
        create_app(settings, checkpoint),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=30,
    )
