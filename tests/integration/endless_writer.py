"""Owns a process that appends to and replaces one value until it is killed, telling each version.

Run as a program with the store's URL. What it writes as a version is known from the version alone.
"""

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

from cache import Append, Entry, RedisStore
from tests.cache.entries import ALICE, make_entry

_APPENDS = 6
"""Between two whole writes."""


def payload_of(version: int) -> bytes:
    """Long enough to be killed in the middle of; then a tail for each append."""
    whole = version - version % (_APPENDS + 1)
    tails = (bytes([part % 256]) * 1000 for part in range(whole + 1, version + 1))
    return bytes([whole % 256]) * 3_000_000 + b"".join(tails)


async def versions(store: RedisStore) -> AsyncIterator[int]:
    """Each version once it is stored, from the one that is held."""
    found = await store.load(ALICE)
    held, version = found.entry, found.version
    while True:
        version += 1
        payload = payload_of(version)
        new = make_entry(ALICE, payload, version=version, lineage=found.lineage)
        if held is not None and version % (_APPENDS + 1):
            crc32 = zlib.crc32(payload)
            header = replace(new.header, payload_crc32=crc32)
            tail = payload[held.header.payload_bytes :]
            assert await store.append(ALICE, Append(held.header, header, tail))
        else:
            assert await store.put(ALICE, new)
        held = Entry(new.header, payload)
        yield version


async def write(url: str) -> None:
    async for version in versions(RedisStore.from_url(url, ttl_s=3600, timeout_s=30.0)):
        sys.stdout.write(f"{version}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1]))
