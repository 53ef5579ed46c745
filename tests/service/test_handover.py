"""A change of model: warmed users are answered by the new checkpoint as if it had known them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio

from cache import Dtype, RedisStore, StateKey
from model.checkpoint import Checkpoint, save
from model.config import ActionTask, Window
from model.history import Event, History
from model.items import Items
from model.network.hstu import HSTU
from service.handover import Outcome, Translation, survey
from tests.reference import inherited, num_kept_of
from tests.service.builders import JSON, WINDOW, assert_right, make_events, window_of
from tests.service.handovers import NEW_IDS, add_events, handover, make_new, serving_on

pytestmark = pytest.mark.anyio

WINDOWS = {
    "the same": WINDOW,
    "wider": Window(capacity=20, keep=11),
    "narrower": Window(capacity=6, keep=3),
    "strict": Window(capacity=9, keep=9),
}
EVERYTHING: JSON = {"include": ["parts"], "exclude_seen": False, "num_results": 30}


def known(events: list[JSON]) -> list[JSON]:
    return [event for event in events if event["item_id"] in NEW_IDS]


@pytest.fixture
def key(checkpoint: Checkpoint) -> Callable[[str], str]:
    """The name of a user's state under the old checkpoint."""
    fingerprint = checkpoint.digests().fingerprint
    return lambda user_id: StateKey(user_id, fingerprint).name


def expected_of(events: list[JSON], window: Window) -> tuple[list[JSON], int]:
    """What the new checkpoint is to hold of a user of the old one, and how many came before."""
    left = window_of(events)
    return inherited(len(events) - len(left), known(left), window)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("count", [1, 12, 13, 14, 30, 41])
async def test_the_next_requests_of_a_warmed_user_are_right(
    window: Window,
    count: int,
    folder: Path,
    checkpoint: Checkpoint,
    remote: RedisStore,
    redis_url: str,
    tmp_path: Path,
) -> None:
    new, events = make_new(window), make_events(count, first=1)
    save(new, tmp_path / "new")
    await add_events(folder, redis_url, {"u": events})
    assert await handover(checkpoint, new, remote).warm("u") is Outcome.WARMED
    held, num_gone = expected_of(events, window)
    async with serving_on(redis_url, tmp_path / "new") as service:
        assert (await service.state())["anchor"] == num_gone
        answer = await service.recommend(**EVERYTHING)
        assert_right(answer, new, held)
        cache = answer["cache"]
        assert (cache["status"], cache["encoded_events"]) == ("hit", 1)
        assert cache["reused_events"] == len(held) - 1
        later = make_events(3, first=count + 1)
        answer = await service.recommend(events=[*known(events[-2:]), *later], **EVERYTHING)
        held = [*held, *known(later)]
        assert_right(answer, new, held[-num_kept_of(num_gone + len(held), window) :])


async def test_with_the_same_window_nothing_tells_that_the_model_has_changed(
    folder: Path, checkpoint: Checkpoint, remote: RedisStore, redis_url: str, tmp_path: Path
) -> None:
    """As many events are known of as were told, those before the window included."""
    new, events = make_new(), make_events(15, first=10)
    save(new, tmp_path / "new")
    await add_events(folder, redis_url, {"u": events})
    await handover(checkpoint, new, remote).warm("u")
    async with serving_on(redis_url, tmp_path / "new") as service:
        answer = await service.recommend(history_size=15)
        assert (answer["degraded"], answer["complete"]) == ([], True)
        answer = await service.recommend(events=events, **EVERYTHING)
        assert_right(answer, new, window_of(events))


async def test_a_window_that_reaches_back_further_tells_that_events_are_missing(
    folder: Path, checkpoint: Checkpoint, remote: RedisStore, redis_url: str, tmp_path: Path
) -> None:
    new, events = make_new(WINDOWS["wider"]), make_events(13, first=10)
    save(new, tmp_path / "new")
    await add_events(folder, redis_url, {"u": events})
    await handover(checkpoint, new, remote).warm("u")
    async with serving_on(redis_url, tmp_path / "new") as service:
        answer = await service.recommend(history_size=13)
        assert answer["degraded"] == ["history_incomplete"]
        answer = await service.recommend(events=events, history_size=13, **EVERYTHING)
        assert (answer["degraded"], answer["cache"]["status"]) == ([], "hit")
        assert_right(answer, new, events)


async def test_old_states_are_left_as_they_are_and_new_ones_live_no_longer(
    folder: Path,
    checkpoint: Checkpoint,
    remote: RedisStore,
    redis_url: str,
    client: redis.asyncio.Redis,
    key: Callable[[str], str],
) -> None:
    new = make_new()
    await add_events(folder, redis_url, {"u": make_events(5)})
    await client.expire(key("u"), 40)
    value = await client.get(key("u"))
    found = await survey(remote, checkpoint.digests().fingerprint, max_users=9, max_scanned=9)
    assert found.users == ["u"]
    assert await handover(checkpoint, new, remote, Dtype.INT8).warm("u") is Outcome.WARMED
    assert await client.get(key("u")) == value
    assert await client.ttl(key("u")) in (39, 40)
    held = await remote.look(StateKey("u", new.digests().fingerprint))
    assert held is not None
    assert (held.header.dtype, held.ttl_s in (38, 39, 40)) == (Dtype.INT8, True)


async def test_the_survey_finds_the_most_recently_used(
    folder: Path,
    checkpoint: Checkpoint,
    remote: RedisStore,
    redis_url: str,
    client: redis.asyncio.Redis,
    key: Callable[[str], str],
) -> None:
    users = ["a", "b:{c}", "d e", "%65", "é/?"]
    await add_events(folder, redis_url, dict.fromkeys(users, make_events(2)))
    for place, user_id in enumerate(users):
        await client.expire(key(user_id), 900 - 100 * place)
    await client.set(key("damaged"), "x" * 200, ex=1000)
    await client.set("session:7", "another application's")
    await client.copy(key("a"), key("never"))
    await client.persist(key("never"))
    fingerprint = checkpoint.digests().fingerprint
    found = await survey(remote, fingerprint, max_users=3, max_scanned=100)
    assert (found.users, found.num_states, found.complete) == (users[:3], 5, True)
    assert not found.others
    found = await survey(remote, fingerprint, max_users=9, max_scanned=2)
    assert (len(found.users), found.num_states, found.complete) == (2, 2, False)
    found = await survey(remote, bytes(16), max_users=9, max_scanned=100)
    assert (found.users, found.others) == ([], {fingerprint.hex(): 5})


async def test_what_is_not_the_users_own_sound_state_is_skipped(
    folder: Path,
    checkpoint: Checkpoint,
    remote: RedisStore,
    redis_url: str,
    client: redis.asyncio.Redis,
    key: Callable[[str], str],
) -> None:
    new = make_new()
    unknown_items = [{"item_id": "i0", "action": None, "timestamp": 5}]
    await add_events(
        folder, redis_url, {"damaged": make_events(5), "a": make_events(3), "b": unknown_items}
    )
    await client.setrange(key("damaged"), 150, b"\xff\xff\xff")
    await client.copy(key("a"), key("swapped"))
    await client.set(key("garbage"), b"MFST" * 50)
    one = handover(checkpoint, new, remote)
    for user_id in ("damaged", "swapped", "garbage", "nobody"):
        assert await one.warm(user_id) is Outcome.GONE
    assert await one.warm("b") is Outcome.UNKNOWN
    made = new.digests().fingerprint.hex().encode()
    assert not [name async for name in client.scan_iter() if name.endswith(made)]
    assert one.report.events == 0


def with_tasks(checkpoint: Checkpoint, actions: tuple[str, ...]) -> Checkpoint:
    tasks = (ActionTask(name="act", actions=actions),) if actions else ()
    config = checkpoint.config.model_copy(update={"tasks": tasks})
    return Checkpoint("other", HSTU(config), Items([{"item_id": "x"}, {"item_id": "i7"}]))


@pytest.mark.parametrize(
    ("actions", "expected", "num_unknown"),
    [
        (("positive", "negative"), [(1, 0, 5), (1, 2, 6), (1, 0, 7), (1, 1, 7)], 1),
        ((), [(1, 0, 5), (1, 0, 6), (1, 0, 7)], 3),
    ],
)
def test_events_are_translated_by_item_id_and_action_name(
    checkpoint: Checkpoint,
    actions: tuple[str, ...],
    expected: list[tuple[int, int, int]],
    num_unknown: int,
) -> None:
    """An action that the new checkpoint does not know is left out, its event is not."""
    translation = Translation(checkpoint, with_tasks(checkpoint, actions))
    held = [Event(7, 0, 5), Event(8, 3, 5), Event(7, 1, 6), Event(7, 2, 7), Event(7, 3, 7)]
    found = translation.of(History.of(held))
    assert found.history.events == expected
    assert (found.unknown_items, found.unknown_actions) == (1, num_unknown)
