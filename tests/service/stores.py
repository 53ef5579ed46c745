"""Owns stores that misbehave on purpose."""

import asyncio

from cache import (
    Append,
    Entry,
    Found,
    Header,
    Held,
    MemoryStore,
    StateKey,
    StoreFull,
    StoreUnavailable,
)


def roomy_store() -> MemoryStore:
    return MemoryStore(1 << 24, 60)


class BrokenStore(MemoryStore):
    """Every operation on a state fails, as with a server that is down."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)

    async def get(self, key: StateKey, **_: object) -> Entry | None:
        raise StoreUnavailable(f"down, as {key.name} finds out")

    async def load(self, key: StateKey, **_: object) -> Found:
        raise StoreUnavailable(f"down, as {key.name} finds out")

    async def put(self, key: StateKey, entry: Entry, **_: object) -> bool:
        raise StoreUnavailable(f"down, as {key.name} finds out at version {entry.header.version}")

    async def append(self, key: StateKey, append: Append, **_: object) -> bool:
        raise StoreUnavailable(f"down, as {key.name} finds out at version {append.header.version}")

    async def head(self, key: StateKey, **_: object) -> Header | None:
        raise StoreUnavailable(f"down, as {key.name} finds out")

    async def delete(self, key: StateKey, **_: object) -> bool:
        raise StoreUnavailable(f"down, as {key.name} finds out")

    async def look(self, key: StateKey, **_: object) -> Held | None:
        raise StoreUnavailable(f"down, as {key.name} finds out")


class LosingStore(MemoryStore):
    """The first `num_lost` writes lose to another writer."""

    def __init__(self, num_lost: int) -> None:
        super().__init__(1 << 24, 60)
        self.num_lost = num_lost

    async def put(self, key: StateKey, entry: Entry, **_: object) -> bool:
        if self.num_lost:
            self.num_lost -= 1
            return False
        return await super().put(key, entry)

    async def append(self, key: StateKey, append: Append, **_: object) -> bool:
        return not self.num_lost and await super().append(key, append)


class ForgettingStore(MemoryStore):
    """Once `forgets` is set, the next write comes right after a delete."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)
        self.forgets = False

    async def put(self, key: StateKey, entry: Entry, **_: object) -> bool:
        await self._forget(key)
        return await super().put(key, entry)

    async def append(self, key: StateKey, append: Append, **_: object) -> bool:
        await self._forget(key)
        return await super().append(key, append)

    async def _forget(self, key: StateKey) -> None:
        if self.forgets:
            self.forgets = False
            await self.delete(key)


class FlakyStore(MemoryStore):
    """Down for the next `num_failures` operations on a state."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)
        self.num_failures = 0

    def _fail(self) -> None:
        if self.num_failures:
            self.num_failures -= 1
            raise StoreUnavailable("down for now")

    async def load(self, key: StateKey, **_: object) -> Found:
        self._fail()
        return await super().load(key)

    async def put(self, key: StateKey, entry: Entry, **_: object) -> bool:
        self._fail()
        return await super().put(key, entry)

    async def append(self, key: StateKey, append: Append, **_: object) -> bool:
        self._fail()
        return await super().append(key, append)

    async def head(self, key: StateKey, **_: object) -> Header | None:
        self._fail()
        return await super().head(key)

    async def delete(self, key: StateKey, **_: object) -> bool:
        self._fail()
        return await super().delete(key)


class FullStore(MemoryStore):
    """Once `is_full` is set it takes nothing more, and still tells what it holds."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)
        self.is_full = False

    def _refuse(self) -> None:
        if self.is_full:
            raise StoreFull("no room")

    async def put(self, key: StateKey, entry: Entry, **_: object) -> bool:
        self._refuse()
        return await super().put(key, entry)

    async def append(self, key: StateKey, append: Append, **_: object) -> bool:
        self._refuse()
        return await super().append(key, append)


class HeldUpStore(MemoryStore):
    """An append has come once `reached` is set, and goes on once `release` is."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)
        self.reached, self.release, self.num_appended = asyncio.Event(), asyncio.Event(), 0

    async def append(self, key: StateKey, append: Append, **_: object) -> bool:
        self.reached.set()
        await self.release.wait()
        self.num_appended += 1
        return await super().append(key, append)


class CalledStore(MemoryStore):
    """Counts the calls that reach it, by name."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)
        self.calls: list[str] = []

    async def load(self, key: StateKey, **_: object) -> Found:
        self.calls.append("load")
        return await super().load(key)

    async def put(self, key: StateKey, entry: Entry, **_: object) -> bool:
        self.calls.append("put")
        return await super().put(key, entry)

    async def append(self, key: StateKey, append: Append, **_: object) -> bool:
        self.calls.append("append")
        before = len(self.calls)
        done = await super().append(key, append)
        del self.calls[before:]
        return done

    async def head(self, key: StateKey, **_: object) -> Header | None:
        self.calls.append("head")
        before = len(self.calls)
        header = await super().head(key)
        del self.calls[before:]
        return header
