"""Owns the forms of a store's URL and what they mean. Never connects; reads the certificates named.

    redis://[[user]:password@]host[:port][/db]             one server
    unix:///path/to/socket[?db=0]                          one server
    redis+sentinel://[...@]host[:port],.../service[/db]    the primary that sentinels know
    redis+cluster://[...@]host[:port],...                  a cluster, from any of its nodes

`rediss` for `redis` means TLS. The query takes redis-py's options (`ssl_ca_certs`, ...), and for
sentinels `sentinel_username` and `sentinel_password`: user and password are the servers' own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from redis import exceptions
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.connection import RedisSSLContext, parse_url

from cache.redis.parser import DirectParser

_SENTINEL_PORT: Final = 26379
_REDIS_PORT: Final = 6379


class Address(NamedTuple):
    """Where a server listens; port 0 for a Unix socket, whose path is the host."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else self.host


class Topology(Enum):
    ONE = auto()
    SENTINEL = auto()
    CLUSTER = auto()


@dataclass(frozen=True, slots=True)
class Access:
    """How to connect to any of several servers: a class of redis-py and its arguments."""

    connection_class: Any
    options: Mapping[str, Any]
    max_connections: int
    wait_s: float
    step_s: float
    """What bounds each write and each reply."""
    certificates: Any = None
    """Redis-py's, as its TLS connections hold them; loaded once, which takes tens of milliseconds
    of the event loop's time, and not for each connection."""

    def connection(self, address: Address) -> Any:
        """One that is not connected yet."""
        place = (
            {"host": address.host, "port": address.port} if address.port else {"path": address.host}
        )
        parser = partial(DirectParser, timeout_s=self.step_s)
        made = self.connection_class(
            **self.options, **place, parser_class=parser, socket_timeout=None
        )
        if self.certificates is not None:
            made.ssl_context = self.certificates
        return made


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL says. `sentinel` is how to connect to the sentinels, if there are."""

    topology: Topology
    seeds: tuple[Address, ...]
    access: Access
    sentinel: Access | None = None
    service: str = ""


def parse(url: str, defaults: Mapping[str, Any], *, max_connections: int, wait_s: float) -> Target:
    """The URL's options win over the arguments.

    Raises ValueError, never quoting the URL; also for certificates that can not be read.
    """
    try:
        target = _parse(url, defaults, max_connections, wait_s)
        # An unknown option is refused here and not at the first use.
        made = target.access.connection(target.seeds[0])
        if target.sentinel:
            target.sentinel.connection(target.seeds[0])
    except (ValueError, TypeError, exceptions.RedisError):
        raise ValueError(
            "malformed Redis URL: use redis://[[user]:password@]host[:port][/db], "
            "redis+sentinel://[[user]:password@]host[:port],.../service-name[/db], "
            "redis+cluster://[[user]:password@]host[:port],..., with rediss:// or rediss+...:// "
            "for TLS, or unix:///path/to/socket[?db=0]; with special characters of user and "
            "password percent-encoded"
        ) from None
    if not isinstance(made, SSLConnection):
        return target
    certificates = _loaded(made.ssl_context)
    return replace(
        target,
        access=replace(target.access, certificates=certificates),
        sentinel=target.sentinel and replace(target.sentinel, certificates=certificates),
    )


def _loaded(certificates: RedisSSLContext) -> RedisSSLContext:
    if certificates.password is None:
        # Without it OpenSSL would ask the terminal for the password of a key, and wait.
        certificates.password = ""
    try:
        certificates.get()
    except (OSError, ValueError) as error:
        raise ValueError(
            "the certificates that the Redis URL names can not be used: check ssl_ca_certs, "
            f"ssl_certfile, ssl_keyfile and ssl_password ({error})"
        ) from None
    return certificates


def _parse(url: str, defaults: Mapping[str, Any], max_connections: int, wait_s: float) -> Target:
    # Newer Pythons refuse a bracket that does not begin the only host they know of.
    begin, separator, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    credentials, at, hosts = authority.rpartition("@")
    parts = urlsplit(f"{begin}{separator}{credentials}{at}{rest[len(authority) :]}")
    scheme, plus, kind = parts.scheme.partition("+")
    if scheme not in (("redis", "rediss") if plus else ("redis", "rediss", "unix")):
        raise ValueError
    # redis-py knows one server: it reads the user, the password and the options.
    one = parse_url(parts._replace(scheme=scheme, path="").geturl())
    options: dict[str, Any] = {**defaults, **one}
    connection_class = options.pop("connection_class", Connection)
    max_connections = options.pop("max_connections", max_connections)
    step_s = options.pop("socket_timeout", wait_s)
    wait_s = options.pop("timeout", wait_s)
    sentinel = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    path = unquote(parts.path).strip("/")
    options.pop("path", None)

    def access(options: Mapping[str, Any]) -> Access:
        return Access(connection_class, options, max_connections, wait_s, step_s)

    if scheme == "unix":
        if not path or hosts:
            raise ValueError
        return Target(Topology.ONE, (Address(unquote(parts.path), 0),), access(options))
    if kind != "sentinel" and any(sentinel.values()):
        raise ValueError
    seeds = _addresses(hosts, _SENTINEL_PORT if kind == "sentinel" else _REDIS_PORT)
    match plus + kind:
        case "":
            if len(seeds) != 1:
                raise ValueError
            return Target(Topology.ONE, seeds, access(_with_db(options, path)))
        case "+sentinel":
            service, _, db = path.partition("/")
            if not service or not hosts:
                raise ValueError
            asking = {**options, **sentinel, "db": 0}
            return Target(
                Topology.SENTINEL, seeds, access(_with_db(options, db)), access(asking), service
            )
        case "+cluster":
            # A cluster has one database.
            if not hosts or path not in ("", "0") or options.get("db"):
                raise ValueError
            return Target(Topology.CLUSTER, seeds, access(options))
    raise ValueError


def _addresses(hosts: str, default_port: int) -> tuple[Address, ...]:
    found = []
    for host in hosts.split(","):
        parts = urlsplit(f"//{host}")
        if parts.path or parts.query or (host and not parts.hostname):
            raise ValueError
        found.append(Address(unquote(parts.hostname or "localhost"), parts.port or default_port))
    if len(found) > 1 and "" in hosts.split(","):
        raise ValueError
    return tuple(found)


def _with_db(options: dict[str, Any], db: str) -> dict[str, Any]:
    if db and not db.isdecimal():
        raise ValueError
    return {"db": int(db), **options} if db else options
