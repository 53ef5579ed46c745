"""Owns every setting of the service: name, unit, default, and what it protects.

Precedence: flag, then `MFALCON_*` environment, then the `--config` file (TOML), then the default.
Never reads settings at import time; the command line builds one `Settings` and passes it on.
"""

from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

import service
from model.errors import InputError, problems

DEMO_CHECKPOINT = Path(service.__file__).parent.parent / "checkpoints" / "demo"
_SCHEMES = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
)


class SettingsError(InputError):
    """A setting is wrong; the message names it."""


class Settings(BaseSettings):
    """What `mfalcon serve` runs with."""

    model_config = SettingsConfigDict(
        env_prefix="MFALCON_", extra="forbid", frozen=True, allow_inf_nan=False
    )

    checkpoint: Path = Field(
        default=DEMO_CHECKPOINT, description="checkpoint folder, as `mfalcon train` writes it"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 picks one")
    store: str = Field(
        default="embedded",
        description="where user states live: `embedded` (a Valkey server started with the service, "
        "for trying out), `memory` (in this process), or the URL of a Redis or Valkey: "
        "redis://, unix://, redis+sentinel:// or redis+cluster://, rediss for TLS",
    )
    store_timeout_ms: float = Field(
        default=50,
        gt=0,
        description="longest wait for an answer of the store, and never more than half of what "
        "a request has left; past it the state is recomputed",
    )
    store_memory_bytes: int = Field(
        default=256 << 20, ge=1 << 20, description="bound of the `memory` and `embedded` stores"
    )
    store_dtype: Literal["float32", "bfloat16", "int8"] = Field(
        default="float32",
        description="numbers of the states in the store: `bfloat16` takes half the bytes and "
        "`int8` about a quarter, for scores within a stated bound instead of equal ones; states "
        "of another dtype are still read",
    )
    device_cache_bytes: int = Field(
        default=256 << 20,
        ge=0,
        description="bound of the states kept as tensors in this process, beside the store; in "
        "`dtype`",
    )
    state_ttl_s: int = Field(
        default=7 * 86_400, ge=1, description="seconds a state is kept after its last use"
    )
    history_url: str = Field(
        default="",
        description="http:// or https:// endpoint of the product that is asked for the history of "
        "a user the store has nothing of; empty: none",
    )
    history_timeout_ms: float = Field(
        default=100,
        gt=0,
        description="longest wait for the history, and never more than half of what a request has "
        "left",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where the model runs; auto takes a GPU if there is one"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="numbers the layers multiply, and of the states in this process: `bfloat16` is "
        "faster where the processor multiplies it and takes half the memory, for scores within a "
        "stated bound instead of equal ones; needs a `store_dtype` that is no wider",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads of the engine; 0: one for each core but one, which reads requests "
        "and writes answers. Threads wait for each other by spinning: no more than there are cores "
        "that nobody else uses",
    )
    microbatch: int = Field(
        default=512,
        ge=1,
        description="candidates scored in one pass, of one request or of several, between two "
        "looks at their deadlines; about the bound of event rows encoded in one pass, too; "
        "smaller stops closer to a deadline, larger suits a GPU",
    )
    batch_rows: int = Field(
        default=4096,
        ge=1,
        description="bound of event rows and candidates of requests that are run together; a "
        "request that exceeds it runs alone; larger shares more passes, and whoever comes "
        "meanwhile waits longer",
    )
    retrieval_candidates: int = Field(
        default=200,
        ge=1,
        description="catalogue items that retrieval hands to the action head when a request "
        "names no candidates",
    )
    max_queue: int = Field(
        default=128,
        ge=1,
        description="requests waiting for the engine, which bounds memory; beyond it they are "
        "refused with 429, as are those before it that would only wait for their deadline",
    )
    max_user_requests: int = Field(
        default=16,
        ge=1,
        description="requests of one user in flight, which are run one after another; beyond it "
        "they are refused with 429, so that nobody's retries pile up",
    )
    max_budget_ms: float = Field(
        default=1000, gt=0, description="latency budget of a request that names none, and the most"
    )
    max_body_bytes: int = Field(
        default=2 << 20,
        ge=1024,
        description="largest request body, and answer of `history_url`, checked before parsing",
    )
    max_candidates: int = Field(default=10_000, ge=1, description="most candidates in a request")
    max_events: int = Field(default=10_000, ge=1, description="most events in a request")
    max_results: int = Field(default=1000, ge=1, description="largest num_results")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, JSON lines elsewhere"
    )

    @field_validator("store")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value in ("embedded", "memory") or value.startswith(_SCHEMES):
            return value
        raise ValueError(f"is `embedded`, `memory` or a URL beginning with {', '.join(_SCHEMES)}")

    @field_validator("dtype")
    @classmethod
    def _no_wider_in_the_store(cls, value: str, info: ValidationInfo) -> str:
        # Rows would be stored as if they were exact, and read so by replicas in float32.
        if value == "bfloat16" and info.data.get("store_dtype") == "float32":
            raise ValueError("is bfloat16: set store_dtype to bfloat16 or int8 with it")
        return value

    @field_validator("history_url")
    @classmethod
    def _known_history(cls, value: str) -> str:
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL:
            url = httpx.URL()
        is_whole = url.scheme in ("http", "https") and url.host and (url.port or 0) < 1 << 16
        if value and not is_whole:
            raise ValueError(
                "is empty or a URL of http:// or https://, a host, and more if need be"
            )
        return value

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: Any, **more: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags over environment; no .env file and no secrets folder."""
        del settings_cls, sources
        return (more["init_settings"], more["env_settings"])

    def masked(self) -> dict[str, object]:
        """Effective values for printing; credentials in URLs are left out."""
        values = self.model_dump(mode="json")
        values |= {"store": mask_url(self.store), "history_url": mask_url(self.history_url)}
        return values


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
