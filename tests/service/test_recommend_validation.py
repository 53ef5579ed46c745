"""What a request may not say: a wrong value is a 422 that names its field, nothing is stored."""

from typing import Any

import pytest

from tests.service.builders import ITEM_IDS, JSON, NOW_S, Service, make_events

pytestmark = pytest.mark.anyio

EVENT: JSON = make_events(1)[0]
NOT_A_STRING: list[Any] = [1, 1.5, True, [], {}]
NOT_A_COUNT: list[Any] = [-1, 1.5, 1.0, "3", True, [], {}]
NOT_A_TIME: list[Any] = [*NOT_A_COUNT, 1_500_000_000_000, 10**30, -(10**30), "2020-01-01"]


def wrong(field: str, values: list[Any]) -> list[Any]:
    """Bodies whose one top-level field is wrong, with the name that must be told."""
    return [pytest.param({field: value}, field, id=f"{field}={value!s:.20}") for value in values]


def wrong_event(field: str, values: list[Any]) -> list[Any]:
    return [
        pytest.param(
            {"events": [EVENT, EVENT | {field: value}]},
            f"events.1.{field}",
            id=f"event {field}={value!s:.20}",
        )
        for value in values
    ]


WRONG_BODIES = [
    *wrong("user_id", [*NOT_A_STRING, None, "", "u" * 257]),
    *wrong("events", [None, "i1", 1, {}, EVENT]),
    *wrong("history_mode", ["merge", "Append", "", None, 1]),
    *wrong("candidates", [[], "i1", 1, {}, True]),
    *wrong("num_results", [0, None, *NOT_A_COUNT]),
    *wrong("exclude_seen", [None, 0, 1, "true", []]),
    *wrong("budget_ms", [0, -1, -0.0, "50", True, [], 10**400]),
    *wrong("request_time", NOT_A_TIME),
    *wrong("history_size", NOT_A_COUNT),
    *wrong("include", [None, "metadata", {}]),
    *wrong("user", ["u"]),
    *wrong("budget", [5]),
    *wrong_event("item_id", [*NOT_A_STRING, None, "", "i" * 257]),
    *wrong_event("action", NOT_A_STRING),
    *wrong_event("timestamp", [None, *NOT_A_TIME]),
    *wrong_event("rating", [5]),
    pytest.param({"events": [EVENT, None]}, "events.1", id="event null"),
    pytest.param({"events": [[]]}, "events.0", id="event list"),
    pytest.param({"events": [{"item_id": "i1"}]}, "events.0.timestamp", id="event without time"),
    pytest.param({"events": [{"timestamp": 1}]}, "events.0.item_id", id="event without item"),
    *(
        pytest.param({"candidates": ["i1", value]}, "candidates.1", id=f"candidate {value!s:.20}")
        for value in (*NOT_A_STRING, None, "", "i" * 257)
    ),
    pytest.param({"include": ["parts", "scores"]}, "include.1", id="include scores"),
    pytest.param({"include": [1]}, "include.0", id="include 1"),
]


@pytest.mark.parametrize(("change", "field"), WRONG_BODIES)
async def test_a_wrong_field_is_named(service: Service, change: JSON, field: str) -> None:
    body: JSON = {"user_id": "u", "events": [EVENT], "request_time": NOW_S}
    response = await service.client.post("/recommend", json=body | change)
    assert response.status_code == 422, response.text
    problem = response.json()
    assert problem["code"] == "invalid_request"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["errors"][0]["message"]
    assert field in problem["detail"]
    assert (await service.client.get("/users/u/state")).status_code == 404


@pytest.mark.parametrize(
    ("literals", "field"),
    [
        ('"budget_ms": NaN', "budget_ms"),
        ('"budget_ms": Infinity', "budget_ms"),
        ('"budget_ms": -Infinity', "budget_ms"),
        ('"budget_ms": 1e999', "budget_ms"),
        ('"request_time": NaN', "request_time"),
        ('"request_time": Infinity', "request_time"),
        ('"num_results": NaN', "num_results"),
        ('"events": [{"item_id": "i1", "timestamp": NaN}]', "events.0.timestamp"),
    ],
)
async def test_literals_beyond_json_are_refused(
    service: Service, literals: str, field: str
) -> None:
    response = await post_raw(service, b'{"user_id": "u", %b}' % literals.encode())
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("missing", ["user_id"])
async def test_a_missing_field_is_named(service: Service, missing: str) -> None:
    response = await service.client.post("/recommend", json={"num_results": 3})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == missing


async def test_an_empty_candidate_list_says_that_it_needs_one(service: Service) -> None:
    """Unlike null, which is the whole catalogue."""
    response = await service.client.post("/recommend", json={"user_id": "u", "candidates": []})
    assert response.status_code == 422
    assert "at least 1 item" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/recommend", "/events"])
@pytest.mark.parametrize("action", ["bought", "Positive", "", "positive "])
async def test_an_unknown_action_is_told_with_the_known_ones(
    service: Service, path: str, action: str
) -> None:
    events = [EVENT, EVENT | {"action": action}]
    response = await service.client.post(path, json={"user_id": "u", "events": events})
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert "events[1].action" in detail
    assert "negative, neutral, positive" in detail
    assert (await service.client.get("/users/u/state")).status_code == 404


async def post_raw(service: Service, content: bytes, content_type: str = "application/json") -> Any:
    headers = {"content-type": content_type}
    return await service.client.post("/recommend", content=content, headers=headers)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"nope",
        b"null",
        b"[]",
        b'"u"',
        b"42",
        b'{"user_id": "u"} trailing',
        b"{\"user_id\": 'u'}",
        b'{"user_id": "\xff"}',
        b"\x00\x00\x00",
        b"[" * 100_000,
        b'{"user_id": "u", "num_results": ' + b"9" * 5000 + b"}",
        b'{"user_id": "\\ud800"}',
        b'{"user_id": "u", "\\ud800": 1}',
        b'{"user_id": "u", "candidates": ["\\ud800"]}',
    ],
    ids=lambda content: content[:24].decode("latin-1"),
)
async def test_a_body_that_is_not_such_an_object_is_invalid(
    service: Service, content: bytes
) -> None:
    response = await post_raw(service, content)
    assert response.status_code == 422, response.text
    assert response.json()["code"] == "invalid_request"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "x"])
async def test_another_content_type_is_invalid(service: Service, content_type: str) -> None:
    response = await post_raw(service, b'{"user_id": "u"}', content_type)
    assert response.status_code == 422


@pytest.mark.parametrize("field", ["events", "candidates"])
async def test_a_list_is_given_up_at_its_first_wrong_element(service: Service, field: str) -> None:
    """A body within the limit may hold a million of them: telling all holds up everybody else."""
    content = b'{"user_id": "u", "%b": [' % field.encode() + b",".join([b"1"] * 50_000) + b"]}"
    response = await post_raw(service, content)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [f"{field}.0"]


async def test_a_long_unknown_name_is_not_sent_back(service: Service) -> None:
    content = b'{"user_id": "u", "%b": 1}' % (b"k" * 500_000)
    response = await post_raw(service, content)
    assert response.status_code == 422
    assert len(response.content) < 10_000


async def test_the_widest_allowed_values_are_served(service: Service) -> None:
    answer = await service.recommend(
        user_id="🦅" * 256,
        events=[EVENT | {"timestamp": 0}, EVENT | {"timestamp": 32_503_679_999, "action": None}],
        candidates=ITEM_IDS * 100,
        num_results=1000,
        budget_ms=1e300,
        request_time=0,
        history_size=10**30,
        include=["parts", "metadata"],
    )
    assert len(answer["items"]) == 59
    assert answer["degraded"] == ["history_incomplete"]


@pytest.mark.parametrize("user_id", ["\x00", "a\nb", "\r\nFLUSHALL\r\n", "\x7f"])
async def test_a_user_id_with_control_characters_is_refused(service: Service, user_id: str) -> None:
    response = await service.client.post("/recommend", json={"user_id": user_id})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "user_id"
