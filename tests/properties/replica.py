"""Owns one replica of the service without HTTP: its own connections, device tier and turns."""

from collections.abc import Coroutine
from typing import Any, Literal

from cache import Dtype, RedisStore
from service.codec import StateCodec
from service.deadline import Deadline, Ending
from service.device_tier import DeviceTier
from service.keys import ANONYMOUS
from service.metrics import Metrics
from service.recommender import Parts, Recommender
from service.schemas import EventIn, EventsRequest, RecommendRequest, RecommendResponse
from service.states import UserStates
from service.updates import Offer, Updates
from tests.properties.models import SETTINGS, Model

Mode = Literal["append", "replace"]

NO_HURRY_MS = 120_000.0
TTL_S = 3600


class Replica:
    """A process' worth of the service; another one on the same store is another process."""

    def __init__(
        self,
        model: Model,
        url: str,
        device_bytes: int,
        dtype: Dtype = Dtype.FLOAT32,
    ) -> None:
        self.model, self.dtype = model, dtype
        self.store, self._device_bytes = open_store(url), device_bytes
        self._url = url
        self._device = DeviceTier(device_bytes)
        codec = StateCodec(model.checkpoint.config, model.fingerprint, model.engine.pool, dtype)
        metrics = Metrics()
        self._states = UserStates(
            self.store, codec, model.engine.empty_state, self._device, metrics
        )
        self._updates = Updates(model.checkpoint, model.thread, self._states, metrics)
        self._recommender = Recommender(
            Parts(
                checkpoint=model.checkpoint,
                engine=model.engine,
                thread=model.thread,
                states=self._states,
                provider=None,
                shadow=None,
                tracing=None,
                settings=SETTINGS,
                metrics=metrics,
            )
        )

    async def restarted(self, model: Model, dtype: Dtype) -> "Replica":
        """A new process in its place."""
        await self.store.close()
        return Replica(model, self._url, self._device_bytes, dtype)

    async def close(self) -> None:
        await self.store.close()

    async def add(self, user_id: str, events: list[EventIn], mode: Mode) -> None:
        request = EventsRequest(user_id=user_id, events=events, history_mode=mode)
        answer = await self._recommender.add_events(request, "id", Deadline.after_ms(NO_HURRY_MS))
        assert answer.stored

    async def add_overtaken(
        self, user_id: str, events: list[EventIn], others: Coroutine[Any, Any, None]
    ) -> bool:
        """Whether it is stored, though others write between this one's reading and writing."""
        offer = Offer.of(self.model.checkpoint, events, replace=False)
        async with self._states.turn(user_id):
            loaded = await self._states.load(user_id)
            await others
            applied = self._updates.apply(offer, loaded.stored.state.history)
            return (await self._updates.store(user_id, loaded, applied)).stored

    async def recommend(
        self, user_id: str, events: list[EventIn], mode: Mode, now_s: int
    ) -> RecommendResponse:
        """Of every item, once the state is written."""
        request = RecommendRequest(
            user_id=user_id,
            events=events,
            history_mode=mode,
            request_time=now_s,
            candidates=self.model.checkpoint.items.ids,
            num_results=len(self.model.checkpoint.items),
            exclude_seen=False,
            include=["parts"],
        )
        recommender, deadline = self._recommender, Deadline.after_ms(NO_HURRY_MS)
        ending = Ending(recommender.margin)
        answer = await recommender.recommend(request, "id", deadline, ANONYMOUS, ending)
        await self._recommender.drain()
        return answer

    async def forget(self, user_id: str) -> None:
        async with self._states.turn(user_id):
            await self._states.forget(user_id)

    def drop_from_device(self, user_id: str) -> None:
        self._device.drop(user_id)


def open_store(url: str) -> RedisStore:
    return RedisStore.from_url(url, ttl_s=TTL_S, timeout_s=10.0)
