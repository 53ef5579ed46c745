"""Owns every setting of the service: name, unit, default, and what it protects.

Never reads settings at import time; the command line builds one `Settings` and passes it on.
"""

import re
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

import service
from model.errors import InputError
from service.keys import ADMIN, Keys, checked, client_pairs

DEMO_CHECKPOINT = Path(service.__file__).parent.parent / "checkpoints" / "demo"
_ORIGIN = re.compile(r"https?://[^/?#@\s*]+")
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
        env_prefix="MFALCON_",
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
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
    engine_stall_s: float = Field(
        default=60,
        gt=0,
        description="a batch that runs for longer is taken for a hang: `/health/live` turns 503 "
        "and whoever waits is answered, so that a process that never would is replaced; longer "
        "than any batch takes, a first pass of a size that was not warmed up included",
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
    max_connections: int = Field(
        default=900,
        ge=1,
        description="open connections, idle ones included; one more is closed at once: each holds "
        "a file descriptor, of which a process has 1024 as a rule, and the store and the log need "
        "some, too; and up to a head and a body of memory",
    )
    max_body_bytes: int = Field(
        default=2 << 20,
        ge=1024,
        description="largest request body, and answer of `history_url`, checked before parsing",
    )
    receive_timeout_ms: float = Field(
        default=10_000,
        gt=0,
        description="longest wait for a request's headers, and again for its body: a client slower "
        "than that is cut off (408), so that it holds no connection for ever",
    )
    max_candidates: int = Field(default=10_000, ge=1, description="most candidates in a request")
    max_events: int = Field(default=10_000, ge=1, description="most events in a request")
    max_batch_users: int = Field(
        default=64,
        ge=1,
        description="most entries in a request of /recommend/batch or /events/batch; each counts "
        "in the queue like a request of its own: more than `max_queue` are never all served",
    )
    max_results: int = Field(default=1000, ge=1, description="largest num_results")
    max_slate: int = Field(
        default=50,
        ge=1,
        description="largest num_results of a slate: its items are found one after another, while "
        "those who come meanwhile wait",
    )
    max_beam: int = Field(
        default=16,
        ge=1,
        description="largest beam: the events that a slate encodes for each of its items",
    )
    ssl_certfile: str = Field(
        default="",
        description="PEM file of the certificate to serve https:// with, and of those between it "
        "and its authority; read at start and on SIGHUP; empty: http://",
    )
    ssl_keyfile: str = Field(
        default="", description="PEM file of its private key, if the first does not hold it"
    )
    ssl_keyfile_password: str = Field(
        default="", repr=False, description="of the private key, if it is encrypted"
    )
    cors_origins: str = Field(
        default="",
        description="origins whose pages a browser lets ask, such as https://shop.example, "
        "separated by commas, or * for all; empty: none but the service's own",
    )
    api_keys: str = Field(
        default="",
        repr=False,
        description="who may ask: name=key pairs, separated by commas, a name twice while its key "
        "is being replaced; empty, and no `api_keys_file`: everybody. Others on the machine see "
        "flags; better set the variable or the file",
    )
    api_keys_file: str = Field(
        default="",
        description="file of such pairs, one a line, read at start and on SIGHUP; added to them",
    )
    warmup_timeout_s: float = Field(
        default=60,
        ge=0,
        description="longest that warming up may keep a service from being ready: the first passes "
        "of a size allocate and choose kernels, for which no request should wait",
    )
    drain_delay_s: float = Field(
        default=5,
        ge=0,
        description="how long requests are still taken after SIGTERM, while `/health/ready` says "
        "503: load balancers go on sending until they have seen it; a second SIGTERM, or Ctrl-C, "
        "does not wait",
    )
    shutdown_timeout_s: int = Field(
        default=30,
        ge=1,
        description="longest wait for requests in flight once the listener is closed, before they "
        "are cut off; whatever ends the process by force has to wait longer than this and "
        "`drain_delay_s`",
    )
    admin_key: str = Field(
        default="",
        repr=False,
        description="opens the routes under /admin/, and nothing else; empty: they are closed",
    )
    shadow_share: float = Field(
        default=0,
        ge=0,
        le=1,
        description="share of the answers of which some scores are compared with the oracle's, in "
        "a process of lowest priority with its own copy of the checkpoint, while no request waits "
        "for the engine; 0: none",
    )
    status_every_s: float = Field(
        default=10,
        ge=0,
        description="seconds between two lines in the log on how the service is doing, if it was "
        "asked anything; 0: never",
    )
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

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for origin in split_origins(value):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError("is * or origins without a path, such as https://shop.example")
        return value

    @field_validator("api_keys")
    @classmethod
    def _pairs(cls, value: str) -> str:
        if value and not client_pairs(value):
            raise ValueError("holds no name=key pair; leave it empty to let everybody in")
        return value

    @field_validator("api_keys_file")
    @classmethod
    def _more_pairs(cls, value: str, info: ValidationInfo) -> str:
        client_pairs(info.data.get("api_keys", ""), value)
        return value

    @field_validator("admin_key")
    @classmethod
    def _key_of_its_own(cls, value: str, info: ValidationInfo) -> str:
        pairs = client_pairs(info.data.get("api_keys", ""), info.data.get("api_keys_file", ""))
        if value and value in (key for _, key in pairs):
            raise ValueError("is an API key, too: take another")
        return checked(value) if value else value

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

    def client_keys(self) -> Keys:
        return Keys(client_pairs(self.api_keys, self.api_keys_file))

    def admin_keys(self) -> Keys:
        """The one, or none."""
        return Keys([(ADMIN, self.admin_key)] if self.admin_key else [])


def split_origins(text: str) -> list[str]:
    return [origin.strip() for origin in text.split(",") if origin.strip()]
