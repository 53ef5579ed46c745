"""Owns opening the store of a service for a command, by the service's own setting."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import typer

from cache import RedisStore, StoreUnavailable
from model.errors import InputError
from service.settings import SettingsError, load_settings

T = TypeVar("T")

_TIMEOUT_S: Final = 5.0
"""For a person who waits; the service has other bounds."""

Store = Annotated[
    str | None, typer.Option(help="URL of a Redis or Valkey; left out: MFALCON_STORE")
]


class StoreAway(InputError):
    """The store does not answer; the message says what to check."""


def store_url(store: str | None) -> str:
    url = load_settings({} if store is None else {"store": store}).store
    if "://" not in url:
        raise SettingsError(
            f"store (--store, MFALCON_STORE): `{url}` lives inside the service; give the URL of a "
            "Redis or Valkey, or ask the service: GET /users/{user_id}/state"
        )
    return url


def with_store(store: str | None, work: Callable[[RedisStore], Awaitable[T]]) -> T:
    url = store_url(store)

    async def run() -> T:
        try:
            # The time to live that states get which are read whole.
            opened = RedisStore.from_url(
                url, ttl_s=load_settings({}).state_ttl_s, timeout_s=_TIMEOUT_S
            )
        except ValueError as error:
            raise SettingsError(f"store (--store, MFALCON_STORE): {error}") from None
        try:
            return await work(opened)
        except StoreUnavailable as error:
            raise StoreAway(str(error)) from None
        finally:
            await opened.close()

    return asyncio.run(run())
