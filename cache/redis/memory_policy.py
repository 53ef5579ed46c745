"""Owns what a server does when its memory is full. Never changes it."""

from dataclasses import dataclass

from redis import exceptions

from cache.redis.node import Session


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """`maxmemory` in bytes, 0 for no bound, and `maxmemory-policy`."""

    max_bytes: int
    policy: str

    @property
    def evicts(self) -> bool:
        """Whether a full server makes room. Every state has a TTL, so volatile-* will do."""
        return self.policy != "noeviction"


async def read_policy(session: Session) -> MemoryPolicy | None:
    """None if the server does not tell, or not to this user."""
    try:
        (text,) = await session.call(("INFO", "memory"))
    except exceptions.ResponseError:
        return None
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    told = {name: value for name, _, value in lines}
    max_bytes = told.get("maxmemory", "0")
    if "maxmemory_policy" not in told or not max_bytes.isdecimal():
        return None
    return MemoryPolicy(int(max_bytes), told["maxmemory_policy"])
