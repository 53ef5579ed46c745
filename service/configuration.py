"""Owns where settings come from, and what of them may be shown.

Precedence: flag, then `MFALCON_*` environment, then the `--config` file (TOML), then the default.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from model.errors import problems
from service.settings import Settings, SettingsError


def load_settings(flags: dict[str, Any], config: Path | None = None) -> Settings:
    """Settings from flags (those given), the environment and a TOML file.

    Raises:
        SettingsError: a wrong value or an unknown name; the message names the setting.
    """
    sources: type[Settings] = Settings
    if config is not None:
        if not config.is_file():
            raise SettingsError(f"--config: {config} is not a file")
        sources = _with_file(config)
    try:
        return sources(**flags)
    except ValidationError as error:
        lines = []
        for where, what in problems(error):
            name = where.partition(".")[0] or "settings"
            lines.append(f"{name} (--{name.replace('_', '-')}, MFALCON_{name.upper()}): {what}")
        raise SettingsError("; ".join(lines)) from error
    except ValueError as error:  # a malformed TOML file
        raise SettingsError(f"--config: {config}: {error}") from error


def printable(settings: Settings) -> dict[str, object]:
    """Effective values for printing, without keys, and without credentials in URLs."""
    values = settings.model_dump(mode="json")
    secrets = [name for name, field in type(settings).model_fields.items() if not field.repr]
    values |= {name: "***" for name in secrets if values[name]}
    return values | {name: mask_url(values[name]) for name in ("store", "history_url")}


def mask_url(url: str) -> str:
    """A URL without user name, password and options, which may hold them too."""
    scheme, separator, rest = url.partition("://")
    rest, question, _ = rest.partition("?")
    credentials, _, host = rest.rpartition("@")
    user, options = "***@" if credentials else "", "?***" if question else ""
    return f"{scheme}{separator}{user}{host}{options}"


def _with_file(path: Path) -> type[Settings]:
    class SettingsWithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **more: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            above = super().settings_customise_sources(settings_cls, *sources, **more)
            return (*above, TomlConfigSettingsSource(settings_cls, toml_file=path))

    return SettingsWithFile
