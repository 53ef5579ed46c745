"""GET /metrics: the counters move with what happens, and no label holds a user."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cache import HEADER_BYTES
from model.kernels.pages import PAGE_ROWS
from tests.service.builders import ITEM_IDS, Service, make_events, serving

pytestmark = pytest.mark.anyio

KV_BYTES = 4 * 4 * 2 * 2 * (4 + 6)  # of 4 final rows: float32, 2 layers, 2 heads, key and value
STORED_BYTES = HEADER_BYTES + KV_BYTES + 5 * 16
OF_A_CUT_READ = {
    (f"{name}_{suffix}", *labels)
    for name, *labels in (
        ("mfalcon_degraded", ("reason", "store_unavailable")),
        ("mfalcon_cache_lookups", ("status", "error"), ("tier", "redis")),
        ("mfalcon_store_errors", ("op", "get")),
    )
    for suffix in ("total", "created")
}
"""A request without time may or may not get an answer of Redis."""

TENSOR_BYTES = KV_BYTES // 4 * PAGE_ROWS + 5 * 3 * 8  # a page, and three columns of events


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ('mfalcon_requests_total{route="/recommend",status="200"}', 3),
        ('mfalcon_requests_total{route="/recommend",status="422"}', 1),
        ('mfalcon_requests_total{route="unmatched",status="404"}', 2),
        ('mfalcon_request_seconds_count{route="/recommend"}', 4),
        ('mfalcon_stage_seconds_count{stage="queue"}', 3),
        ('mfalcon_stage_seconds_count{stage="cache"}', 3),
        ('mfalcon_stage_seconds_count{stage="encode"}', 3),
        ('mfalcon_stage_seconds_count{stage="score"}', 3),
        ('mfalcon_stage_seconds_count{stage="write"}', 1),
        ('mfalcon_cache_lookups_total{status="miss",tier="memory"}', 2),
        ('mfalcon_cache_lookups_total{status="hit",tier="device"}', 1),
        ('mfalcon_event_rows_total{kind="reused"}', 4),
        ('mfalcon_event_rows_total{kind="encoded"}', 5 + 1),
        ('mfalcon_candidates_total{kind="scored"}', 55 + 2),
        ('mfalcon_candidates_total{kind="unscored"}', 0),
        ('mfalcon_degraded_total{reason="no_history"}', 1),
        ('mfalcon_degraded_total{reason="popularity"}', 1),
        ("mfalcon_state_write_conflicts_total", 0),
        ('mfalcon_state_source_total{source="none"}', 2),
        ('mfalcon_state_source_total{source="device"}', 1),
        ('mfalcon_state_bytes_total{direction="in",tier="memory"}', STORED_BYTES),
        ('mfalcon_state_bytes_total{direction="out",tier="memory"}', 0),
        ('mfalcon_state_bytes_total{direction="in",tier="device"}', TENSOR_BYTES),
        ('mfalcon_state_bytes_total{direction="out",tier="device"}', TENSOR_BYTES),
        ('mfalcon_evictions_total{tier="device"}', 0),
        ('mfalcon_evictions_total{tier="memory"}', 0),
        ("mfalcon_queue_requests", 0),
        ("mfalcon_inflight_requests", 1),  # the one that asks
        ("mfalcon_late_total", 1),
        ("mfalcon_ready", 1),
        ("mfalcon_alive", 1),
        ('mfalcon_store_seconds_count{op="get",tier="memory"}', 2),
        ('mfalcon_store_seconds_count{op="put",tier="memory"}', 1),
    ],
)
async def test_counters_move_with_what_happens(
    service: Service, sample: str, expected: float
) -> None:
    await service.recommend(events=make_events(5))
    await service.recommend(candidates=["i50", "i51", "nope"])
    await service.recommend(user_id="v", budget_ms=1e-6)
    await service.client.post("/recommend", json={})
    for path in ("/users/nobody/state", "/nowhere", "/nowhere/else"):
        await service.client.get(path)
    assert await service.metric(sample) == expected


async def test_an_append_moves_its_tail_and_a_fetch_the_whole(folder: Path, redis_url: str) -> None:
    flags = {"store": redis_url, "store_timeout_ms": 10_000, "device_cache_bytes": 0}
    async with serving(folder, **flags) as service:
        await service.add_events(make_events(4))
        await service.add_events(make_events(1, first=4))
        moved = {
            direction: await service.metric(
                f'mfalcon_state_bytes_total{{direction="{direction}",tier="redis"}}'
            )
            for direction in ("in", "out")
        }
    row_bytes = 16 + KV_BYTES // 4
    assert moved == {
        "in": 2 * HEADER_BYTES + 3 * row_bytes + 16 + row_bytes,
        "out": HEADER_BYTES + 3 * row_bytes + 16,
    }


async def test_evictions_are_told_by_tier(folder: Path) -> None:
    async with serving(folder, device_cache_bytes=TENSOR_BYTES) as service:
        for user_id in "abc":
            await service.add_events(make_events(5), user_id=user_id)
        assert await service.metric('mfalcon_evictions_total{tier="device"}') == 2
        assert await service.metric('mfalcon_held_bytes{tier="device"}') == TENSOR_BYTES


async def test_what_fails_behind_the_answer_is_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    recommender = service.runtime.recommender()
    monkeypatch.setattr(recommender.states, "save", fail)
    await service.recommend(events=make_events(5))
    await recommender.drain()
    assert await service.metric('mfalcon_unstored_total{reason="error"}') == 1


async def test_the_exposition_is_well_formed_and_names_the_checkpoint(service: Service) -> None:
    await service.recommend()
    response = await service.client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    (info,) = families["mfalcon_info"].samples
    fingerprint = service.runtime.recommender().checkpoint.digests().fingerprint.hex()
    assert info.labels["checkpoint"] == "tiny"
    assert info.labels["fingerprint"] == fingerprint
    assert info.labels["version"]
    assert all(name.startswith(("mfalcon_", "process_")) for name in families)


async def test_no_label_holds_a_user_an_item_or_a_path(service: Service) -> None:
    for path in ("/users/hush/state", "/hush", "/users/hush/hush", "/hush?hush=hush"):
        await service.client.get(path)
        await service.client.delete(path)
    await service.recommend(
        user_id="hush", events=make_events(2), candidates=["hush", *ITEM_IDS[:3]]
    )
    await service.client.post("/recommend", json={"user_id": "hush", "hush": 1})
    text = (await service.client.get("/metrics")).text
    assert 'route="/users/{user_id' in text
    assert "hush" not in text
    assert '"i1"' not in text


async def mixed_load(service: Service, name: str, first: int) -> None:
    """New and returning users, wrong requests, unknown paths; all of it named after `name`."""
    for user_id in (f"{name}1", f"{name}2"):
        await service.add_events(make_events(3, first=first), user_id=user_id)
        await service.recommend(user_id=user_id, events=make_events(2, first=first + 3))
        await service.recommend(user_id=user_id, candidates=[name, *ITEM_IDS[first : first + 3]])
    await service.recommend(user_id=f"{name}3", budget_ms=1e-6)
    await service.client.post("/recommend", json={"user_id": name, name: name})
    await service.client.post("/recommend", content=b"\0" + name.encode())
    await service.client.get(f"/users/{name}4/state")
    await service.client.delete(f"/users/{name}1/state")
    await service.client.get(f"/{name}?{name}={name}", headers={name: name, "X-Request-ID": name})


async def test_more_users_are_no_more_series(folder: Path, redis_url: str) -> None:
    async with serving(folder, store=redis_url, store_timeout_ms=10_000) as service:
        told: list[set[tuple[object, ...]]] = []
        await service.client.get("/metrics")
        for name, num_times in (("telltale", 1), ("hearsay", 10)):
            for number in range(num_times):
                await mixed_load(service, f"{name}{number}", 20 * len(told))
            text = (await service.client.get("/metrics")).text
            assert name not in text
            families = text_string_to_metric_families(text)
            told.append({(s.name, *sorted(s.labels.items())) for f in families for s in f.samples})
    assert not told[0] - told[1]
    assert told[1] - told[0] <= OF_A_CUT_READ
    assert len(told[0]) < 1000
