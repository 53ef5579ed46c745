"""GET and DELETE /users/{user_id}/state: what is held for a user, and forgetting it."""

from urllib.parse import quote

import pytest

from cache import HEADER_BYTES
from model.checkpoint import Checkpoint
from tests.service.builders import Service, assert_right, make_events
from tests.service.test_recommend import USER_IDS

pytestmark = pytest.mark.anyio


async def test_the_state_that_is_held(service: Service, checkpoint: Checkpoint) -> None:
    await service.add_events(make_events(20))
    state = await service.state()
    row_bytes = 16 + 4 * 2 * 2 * (4 + 6)
    assert state == {
        "user_id": "u",
        "fingerprint": checkpoint.digests().fingerprint.hex(),
        "tiers": ["device", "memory"],
        "num_events": 8,
        "num_final": 7,
        "anchor": 12,
        "version": 1,
        "dtype": "float32",
        "num_bytes": HEADER_BYTES + 7 * row_bytes + 16,
        "expires_in_s": 7 * 86_400,
    }
    await service.add_events(make_events(1, first=20))
    assert (await service.state())["version"] == 2


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_nothing_is_held_of_an_unknown_user(service: Service, method: str) -> None:
    await service.add_events(make_events(2))
    response = await service.client.request(method, "/users/v/state")
    if method == "GET":
        assert (response.status_code, response.json()["code"]) == (404, "unknown_user")
    else:
        assert (response.status_code, response.json()) == (200, {"user_id": "v", "deleted": False})
    assert (await service.state())["num_events"] == 2


async def test_a_deleted_state_is_gone(service: Service, checkpoint: Checkpoint) -> None:
    await service.recommend(events=make_events(5))
    for deleted in (True, False):
        response = await service.client.delete("/users/u/state")
        assert response.json() == {"user_id": "u", "deleted": deleted}
    assert (await service.client.get("/users/u/state")).status_code == 404
    answer = await service.recommend(events=make_events(2, first=3), include=["parts"])
    assert answer["cache"]["status"] == "miss"
    assert_right(answer, checkpoint, make_events(2, first=3))


@pytest.mark.parametrize("user_id", USER_IDS)
async def test_every_user_id_that_can_be_stored_can_be_seen_and_deleted(
    service: Service, user_id: str
) -> None:
    await service.add_events(make_events(3), user_id=user_id)
    escaped = quote(user_id, safe="").replace(".", "%2E")  # as clients resolve dots themselves
    path = f"/users/{escaped}/state"
    state = (await service.client.get(path)).json()
    assert (state.get("user_id"), state.get("num_events")) == (user_id, 3)
    deleted = (await service.client.delete(path)).json()
    assert deleted == {"user_id": user_id, "deleted": True}
    assert (await service.client.get(path)).status_code == 404


async def test_a_user_id_over_256_characters_is_invalid(service: Service) -> None:
    for method in ("GET", "DELETE"):
        response = await service.client.request(method, f"/users/{'u' * 257}/state")
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == "user_id"
