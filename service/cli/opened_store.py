"""Owns opening the store of a service for a command, by the service's own setting."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import typer

from cache import RedisStore, StoreUnavailable
from model.errors import InputError
from service.configuration import load_settings
from service.settings import Settings, SettingsError

T = TypeVar("T")

_TIMEOUT_S: Final = 5.0
"""For a person who waits; the service has other bounds."""

Store = Annotated[
    str | None, typer.Option(help="URL of a Redis or Valkey; left out: MFALCON_STORE")
]


class StoreAway(InputError):
    """The store does not answer; the message says what to check."""


def store_settings(store: str | None, **more: str | None) -> Settings:
    """The service's settings, with what was given in their place and a store that can be reached.

    Raises:
        SettingsError: a wrong value, or a store that lives inside the service.
    """
    given = {"store": store, **more}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    if "://" not in settings.store:
        raise SettingsError(
            f"store (--store, MFALCON_STORE): `{settings.store}` lives inside the service; give "
            "the URL of a Redis or Valkey, or ask the service: GET /users/{user_id}/state"
        )
    return settings


def with_store(settings: Settings, work: Callable[[RedisStore], Awaitable[T]]) -> T:
    """
    Raises:
        SettingsError: a malformed URL.
        StoreAway: the store does not answer.
    """

    async def run() -> T:
        try:
            # The time to live that states get which are read whole.
            opened = RedisStore.from_url(
                settings.store, ttl_s=settings.state_ttl_s, timeout_s=_TIMEOUT_S
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
