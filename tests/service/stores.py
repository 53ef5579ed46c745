"""Owns stores that misbehave on purpose."""

from cache import Append, Entry, Header, Held, MemoryStore, StateKey, StoreUnavailable


def roomy_store() -> MemoryStore:
    return MemoryStore(1 << 24, 60)


class BrokenStore(MemoryStore):
    """Every operation on a state fails, as with a server that is down."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)

    async def get(self, key: StateKey, **_: object) -> Entry | None:
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


class FlakyStore(MemoryStore):
    """Down for the next `num_failures` operations on a state."""

    def __init__(self) -> None:
        super().__init__(1 << 24, 60)
        self.num_failures = 0

    def _fail(self) -> None:
        if self.num_failures:
            self.num_failures -= 1
            raise StoreUnavailable("down for now")

    async def get(self, key: StateKey, **_: object) -> Entry | None:
        self._fail()
        return await super().get(key)

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
