"""Owns the way of a command to its key's server and what errors mean. Never knows what a state is.

One server, sentinels or a cluster: what differs is where a key is. An attempt is repeated once, and
only if it can not have done anything (refused, redirected) or only reads; never after a timeout.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cache.breaker import NUM_FAILURES, BreakerState
from cache.redis.node import Failed, Node, PoolBusy, Session, Skipped
from cache.redis.route import Cluster, OneServer, Route, Sentinels, UnknownPrimary
from cache.redis.timeouts import heard_out
from cache.redis.url import Access, Address, Target, Topology, parse
from cache.store import StoreFull, StoreUnavailable

T = TypeVar("T")

_REACHABLE: Final = (
    "check that it runs, and that the URL names its host and port, and rediss if it speaks TLS"
)
_SLOW: Final = "check its load and the network, or raise the timeout"
_BY_TLS: Final = {
    _REACHABLE: "check that it runs and speaks TLS, that the URL names its host, as its "
    "certificate does, and its port, ssl_ca_certs, and ssl_certfile and ssl_keyfile if it asks "
    "for a certificate",
    _SLOW: "check that it speaks TLS, its load and the network, or raise the timeout",
}
# The first match wins, so subclasses stand before their bases.
_ADVICE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (PoolBusy, "more requests at once than connections, allow more (max_connections in the URL)"),
    (Skipped, f"it failed {NUM_FAILURES} times in a row and is given a pause"),
    (UnknownPrimary, "check the service name in the URL, the sentinels do not know it"),
    (exceptions.AuthenticationError, "check the user name and password in the URL"),
    (exceptions.NoPermissionError, "check the rights of the URL's user on mf:* keys"),
    (exceptions.OutOfMemoryError, "set maxmemory-policy to allkeys-lru, so that it evicts"),
    (exceptions.ReadOnlyError, "point the URL at the primary, this is a replica"),
    (exceptions.AskError, "use redis+cluster:// for a cluster's node"),
    (exceptions.ClusterDownError, "check that every hash slot of the cluster has a server"),
    (exceptions.TimeoutError, _SLOW),
    (exceptions.ConnectionError, _REACHABLE),
    (exceptions.ResponseError, "check that it is Redis 6.2 or newer, or Valkey"),
    (Exception, _REACHABLE),
)
# Nothing was done, and a look-up may lead to a server that does it.
_REDIRECTS: Final = (exceptions.AskError, exceptions.ReadOnlyError)
# Another attempt would find the same.
_FINAL: Final = (PoolBusy, Skipped, exceptions.AuthenticationError, exceptions.BusyLoadingError)


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A server that is not asked any more, is tried, or is asked again."""

    server: str
    before: BreakerState
    after: BreakerState


def ignore_change(change: BreakerChange) -> None:
    """For those who need not know."""
    del change


class RedisClient:
    """Connections to the servers of one URL, each opened at first use."""

    def __init__(self, target: Target, on_breaker: Callable[[BreakerChange], None]) -> None:
        self._target, self._on_breaker = target, on_breaker
        self._nodes: dict[Address, Node] = {}
        self._sentinels: list[Node] = []
        self._route = self._make_route()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout_s: float,
        max_connections: int,
        on_breaker: Callable[[BreakerChange], None] = ignore_change,
    ) -> "RedisClient":
        """Raises ValueError for a malformed URL, without quoting it; `url.py` has the forms.

        `timeout_s` bounds the wait for a free connection, each write and each reply; connecting
        may take twice as long. Options in the URL's query win over these arguments.
        """
        defaults = {
            "socket_connect_timeout": 2 * timeout_s,
            # Attempts are counted here alone.
            "retry": Retry(NoBackoff(), 0),
            # RESP2 needs no greeting, so connecting saves a round trip.
            "protocol": 2,
        }
        target = parse(url, defaults, max_connections=max_connections, wait_s=timeout_s)
        return cls(target, on_breaker)

    @property
    def num_skipped(self) -> int:
        """Servers that are not asked for now, sentinels included."""
        return sum(node.is_skipped for node in (*self._nodes.values(), *self._sentinels))

    async def run(
        self,
        name: str,
        operation: Callable[[Session], Awaitable[T]],
        *,
        is_read: bool = False,
        timeout_s: float | None = None,
    ) -> T:
        """What the operation returns, at the server of a key. Raises StoreUnavailable.

        `timeout_s` bounds all of it, beside the bounds on its steps. A bug in the operation is no
        outage: it is raised as it is.
        """
        try:
            async with heard_out(timeout_s):
                return await self._run(name, operation, is_read)
        except Failed as failed:
            is_full = isinstance(failed.error, exceptions.OutOfMemoryError)
            # The cause is not chained: a server may echo the password of a refused AUTH.
            raise (StoreFull if is_full else StoreUnavailable)(self._explain(failed)) from None
        except TimeoutError:
            raise StoreUnavailable("the request had no time left to wait for Redis") from None

    async def everywhere(self, operation: Callable[[Session], Awaitable[T]]) -> dict[str, T]:
        """What the operation returns at each server that holds states. Raises StoreUnavailable."""
        return {str(at): await self.run_at(at, operation) for at in await self.servers()}

    async def servers(self, name: str | None = None) -> list[Address]:
        """Those that hold states, or the one that holds a key. Raises StoreUnavailable."""
        try:
            return await self._route.find_all() if name is None else [await self._route.find(name)]
        except Failed as failed:
            raise StoreUnavailable(self._explain(failed)) from None

    async def run_at(self, server: Address, operation: Callable[[Session], Awaitable[T]]) -> T:
        """What the operation returns at that server. Raises StoreUnavailable."""
        try:
            return await self._node(server).run(operation)
        except Failed as failed:
            # A redirection is about a key, and none is named here.
            if not isinstance(failed.error, exceptions.AskError):
                self._route.learn("", failed)
            raise StoreUnavailable(self._explain(failed)) from None

    async def close(self) -> None:
        await self._route.close()
        for node in list(self._nodes.values()):
            await node.close()

    async def _run(
        self, name: str, operation: Callable[[Session], Awaitable[T]], is_read: bool
    ) -> T:
        address = await self._route.find(name)
        try:
            return await self._node(address).run(operation)
        except Failed as failed:
            leads_elsewhere = self._route.learn(name, failed)
            if not _may_repeat(failed, is_read, leads_elsewhere):
                raise
            error = failed.error
        if isinstance(error, exceptions.AskError) and not isinstance(error, exceptions.MovedError):
            taker = Address(error.host or address.host, error.port)
            return await self._node(taker).run(operation, asking=True)
        address = await self._route.find(name)
        try:
            return await self._node(address).run(operation)
        except Failed as failed:
            self._route.learn(name, failed)
            raise

    def _make_route(self) -> Route:
        target = self._target
        match target.topology:
            case Topology.ONE:
                return OneServer(target.seeds[0])
            case Topology.SENTINEL:
                assert target.sentinel is not None
                self._sentinels = [self._make(at, target.sentinel) for at in target.seeds]
                return Sentinels(target.service, self._sentinels, self._keep)
            case Topology.CLUSTER:
                return Cluster(target.seeds, self._node, self._keep)

    def _node(self, address: Address) -> Node:
        if address not in self._nodes:
            self._nodes[address] = self._make(address, self._target.access)
        return self._nodes[address]

    def _make(self, address: Address, access: Access) -> Node:
        return Node(address, access, self._tell)

    def _tell(self, address: Address, before: BreakerState, after: BreakerState) -> None:
        if after is BreakerState.OPEN:
            # Also where nobody stayed to see the failure: callers with little time.
            self._route.forget(address)
        self._on_breaker(BreakerChange(str(address), before, after))

    async def _keep(self, known: set[Address]) -> None:
        """Let go of servers that are not known any more."""
        for address in self._nodes.keys() - known:
            await self._nodes.pop(address).close()

    def _explain(self, failed: Failed) -> str:
        reason = str(failed.error)
        for access in (self._target.access, self._target.sentinel):
            for secret in ("username", "password"):
                value = access.options.get(secret) if access else None
                reason = reason.replace(value, "***") if value else reason
        advice = next(text for kind, text in _ADVICE if isinstance(failed.error, kind))
        if self._target.access.certificates is not None:
            advice = _BY_TLS.get(advice, advice)
        return f"Redis at {failed.address} is unavailable: {advice} ({reason[:200]})"


def _may_repeat(failed: Failed, is_read: bool, leads_elsewhere: bool) -> bool:
    error = failed.error
    if isinstance(error, _REDIRECTS):
        return leads_elsewhere
    if isinstance(error, _FINAL):
        return False
    return isinstance(error, exceptions.ConnectionError) and (is_read or not failed.sent)
