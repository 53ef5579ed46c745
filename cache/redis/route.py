"""Owns which server holds a key: the only one, the sentinels' primary, or a cluster's slot owner.

Never keeps a server that failed: the next look-up asks anew, so a failover or a resharding costs
the attempts until it is done and nothing after. Redis-py's own Sentinel and RedisCluster are not
used: they retry behind the caller's back, and wait without a bound that a request could set.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from cache.redis.node import Failed, Node, PoolBusy, Session, Skipped
from cache.redis.url import Address

T = TypeVar("T")

_UNKNOWN_HOSTS: Final = ("", "?")


class UnknownPrimary(exceptions.ResponseError):
    """The sentinels answer, but do not know the service."""


class Route(Protocol):
    async def find(self, name: str) -> Address:
        """The server to ask about a key. Raises Failed."""

    async def find_all(self) -> list[Address]:
        """The servers that keys are written to. Raises Failed."""

    def forget(self, address: Address) -> None:
        """Look up anew what this server was known to hold."""

    def learn(self, name: str, failed: Failed) -> bool:
        """Take note of a failure; whether another look-up may lead elsewhere."""

    async def close(self) -> None:
        """Stop asking."""


class OneServer:
    def __init__(self, address: Address) -> None:
        self._address = address

    async def find(self, name: str) -> Address:
        del name
        return self._address

    async def find_all(self) -> list[Address]:
        return [self._address]

    def forget(self, address: Address) -> None:
        del address

    def learn(self, name: str, failed: Failed) -> bool:
        del name, failed
        return False

    async def close(self) -> None:
        return


class Sentinels:
    """The primary of a service. A replica refuses every command on states but looks as READONLY
    (GETEX writes too), so a primary that was demoted unnoticed is noticed."""

    def __init__(
        self,
        service: str,
        sentinels: Iterable[Node],
        on_known: Callable[[set[Address]], Awaitable[None]],
    ) -> None:
        self._service, self._sentinels, self._on_known = service, list(sentinels), on_known
        self._primary: Address | None = None
        self._asking = _Shared(self._ask)

    async def find(self, name: str) -> Address:
        del name
        return self._primary or await self._asking()

    async def find_all(self) -> list[Address]:
        return [await self.find("")]

    def forget(self, address: Address) -> None:
        if address == self._primary:
            self._primary = None

    def learn(self, name: str, failed: Failed) -> bool:
        del name
        if _may_have_moved(failed.error):
            self.forget(failed.address)
        return self._primary != failed.address

    async def close(self) -> None:
        await self._asking.close()
        for sentinel in self._sentinels:
            await sentinel.close()

    async def _ask(self) -> Address:
        async def primary(session: Session) -> Address:
            ask = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            (found,) = await session.call(ask)
            if found is None:
                raise UnknownPrimary("no such primary")
            return Address(found[0].decode(), int(found[1]))

        found, sentinel = await _first_answer(self._sentinels, lambda _: primary)
        # The one that answered is asked first from now on.
        self._sentinels.sort(key=lambda other: other is not sentinel)
        self._primary = found
        await self._on_known({found})
        return found


class Cluster:
    """The owner of each hash slot, as the first node that answers tells it."""

    def __init__(
        self,
        seeds: Iterable[Address],
        node: Callable[[Address], Node],
        on_known: Callable[[set[Address]], Awaitable[None]],
    ) -> None:
        self._seeds, self._node, self._on_known = list(seeds), node, on_known
        self._owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._asking = _Shared(self._ask)

    async def find(self, name: str) -> Address:
        slot = key_slot(name.encode())
        owner = self._owners[slot] or (await self._asking())[slot]
        if owner is None:
            error = exceptions.ClusterDownError(f"no server has hash slot {slot}")
            raise Failed(self._seeds[0], error, sent=False)
        return owner

    async def find_all(self) -> list[Address]:
        # All of them, so one that is missing is looked up.
        owners = self._owners if all(self._owners) else await self._asking()
        return list(dict.fromkeys(owner for owner in owners if owner))

    def forget(self, address: Address) -> None:
        # The other servers' slots are served meanwhile.
        self._owners = [None if owner == address else owner for owner in self._owners]

    def learn(self, name: str, failed: Failed) -> bool:
        error = failed.error
        if isinstance(error, exceptions.MovedError):
            # A node that does not know the other's address leaves the host out: it is its own.
            owner = Address(error.host or failed.address.host, error.port)
            self._owners[key_slot(name.encode())] = owner
            return True
        if _may_have_moved(error):
            self.forget(failed.address)
            return True
        return isinstance(error, exceptions.AskError)

    async def close(self) -> None:
        await self._asking.close()

    async def _ask(self) -> list[Address | None]:
        def owners_as_told_by(node: Node) -> Callable[[Session], Awaitable[list[Address | None]]]:
            async def owners(session: Session) -> list[Address | None]:
                (slots,) = await session.call(("CLUSTER", "SLOTS"))
                if not slots:
                    raise exceptions.ClusterDownError("it has not met the other nodes yet")
                return _owners(slots, node.address)

            return owners

        known = dict.fromkeys([*(owner for owner in self._owners if owner), *self._seeds])
        nodes = [self._node(address) for address in known]
        self._owners, _ = await _first_answer(nodes, owners_as_told_by)
        owners = self._owners
        await self._on_known({*self._seeds, *(owner for owner in owners if owner)})
        return owners


async def _first_answer(
    nodes: Sequence[Node], question: Callable[[Node], Callable[[Session], Awaitable[T]]]
) -> tuple[T, Node]:
    """The answer of the first node that has one, and the node. Raises Failed, the last's."""
    failed: Failed | None = None
    for node in list(nodes):
        try:
            return await node.run(question(node)), node
        except Failed as error:
            failed = error
    assert failed is not None
    raise failed


def _owners(slots: list[Any], told_by: Address) -> list[Address | None]:
    owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    for first, last, primary, *_ in slots:
        host = (primary[0] or b"").decode()
        # A node that was not told its own address is where it was asked.
        owner = Address(told_by.host if host in _UNKNOWN_HOSTS else host, int(primary[1]))
        owners[first : last + 1] = [owner] * (last + 1 - first)
    return owners


def _may_have_moved(error: Exception) -> bool:
    """Whether a failure says that another server may have taken over."""
    if isinstance(error, PoolBusy | Skipped):
        return False
    of_a_change = (exceptions.ReadOnlyError, exceptions.ClusterDownError)
    return isinstance(error, of_a_change) or not isinstance(error, exceptions.ResponseError)


class _Shared(Generic[T]):
    """One look-up at a time, for everybody who waits: its outcome is theirs, failure included.

    Otherwise a hundred requests would ask a hanging sentinel one after another. A request that is
    cancelled leaves the look-up to the others.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask())
            # Looked at once, so that nobody has to be left to wait for it.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
