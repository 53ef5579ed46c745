"""What happens to every request around its route: its id, its timing, the limit of its body."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service import logs
from tests.service.builders import Service, make_events, serving

pytestmark = pytest.mark.anyio

JSON_TYPE = {"Content-Type": "application/json"}
CHUNK = bytes(64 << 10)
FIFTY_MB = 50 << 20


class Upload:
    """A body in chunks that counts how many of them were taken."""

    def __init__(self, num_bytes: int, chunk: bytes = CHUNK) -> None:
        self._left, self._chunk = num_bytes, chunk
        self.bytes_taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._left > 0:
            piece = self._chunk[: self._left]
            self._left -= len(piece)
            self.bytes_taken += len(piece)
            yield piece


@pytest.mark.parametrize("given", ["a", "A-1.b_c:d", "7" * 128, "0e1c9ad4-aa0b"])
async def test_a_safe_request_id_comes_back(service: Service, given: str) -> None:
    response = await service.client.post(
        "/recommend", json={"user_id": "u"}, headers={"X-Request-ID": given}
    )
    assert response.headers["X-Request-ID"] == given
    assert response.json()["request_id"] == given


@pytest.mark.parametrize(
    "given",
    ["", " ", "a b", "7" * 129, "a\tb", "<script>", "a/b", "é", "a\x7f", "{}", '"'],
    ids=repr,
)
async def test_an_unsafe_request_id_is_replaced(service: Service, given: str) -> None:
    headers = {b"X-Request-ID": given.encode("latin-1")}
    response = await service.client.post("/recommend", json={"user_id": "u"}, headers=headers)
    request_id = response.headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert response.json()["request_id"] == request_id


async def test_requests_without_an_id_get_different_ones(service: Service) -> None:
    responses = [await service.client.get(path) for path in ("/info", "/info", "/nowhere", "/")]
    assert len({response.headers["X-Request-ID"] for response in responses}) == 4


async def test_server_timing_is_that_of_the_answer(service: Service) -> None:
    response = await service.client.post(
        "/recommend", json={"user_id": "u", "events": make_events(3)}
    )
    pairs = (entry.split(";dur=") for entry in response.headers["Server-Timing"].split(", "))
    assert {stage: float(ms) for stage, ms in pairs} == response.json()["timing_ms"]


@pytest.mark.parametrize("path", ["/recommend", "/events"])
async def test_a_declared_body_over_the_limit_is_not_read(service: Service, path: str) -> None:
    upload = Upload(FIFTY_MB)
    headers = JSON_TYPE | {"Content-Length": str(FIFTY_MB)}
    response = await service.client.post(path, content=upload, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert "max_body_bytes" in response.json()["detail"]
    assert response.headers["Connection"] == "close"
    assert upload.bytes_taken == 0


@pytest.mark.parametrize(
    "headers",
    [{}, {b"Content-Length": b"10"}, {b"Content-Length": b"ten"}, {b"Content-Length": b"\xb2"}],
    ids=["chunked", "too small", "no number", "no decimal number"],
)
async def test_a_body_that_grows_over_the_limit_is_read_no_further(
    service: Service, headers: dict[bytes, bytes]
) -> None:
    upload = Upload(FIFTY_MB)
    headers = {b"Content-Type": b"application/json"} | headers
    response = await service.client.post("/recommend", content=upload, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    limit = service.runtime.settings.max_body_bytes
    assert limit < upload.bytes_taken <= limit + 2 * len(CHUNK)
    assert (await service.recommend())["complete"] is True


@pytest.mark.parametrize("chunk_bytes", [1000, 1])
async def test_the_limit_is_the_largest_body(folder: Path, chunk_bytes: int) -> None:
    async with serving(folder, max_body_bytes=1024) as service:
        for extra, status in ((0, 200), (1, 413)):
            body = b'{"user_id": "u"}'.ljust(1024 + extra)
            for content in (body, pieces(body, chunk_bytes)):
                response = await service.client.post(
                    "/recommend", content=content, headers=JSON_TYPE
                )
                assert response.status_code == status


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def test_a_body_in_single_bytes_is_read_whole(service: Service) -> None:
    content = pieces(b'{"user_id": "\xc3\xa9", "num_results": 3}', 1)
    response = await service.client.post("/recommend", content=content, headers=JSON_TYPE)
    assert response.status_code == 200
    assert (response.json()["user_id"], len(response.json()["items"])) == ("é", 3)


async def test_the_log_holds_the_request_but_not_the_user(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")  # once more: onto the standard error that is captured now
    await service.recommend(user_id="hush", events=make_events(1))
    await service.client.get("/users/hush/state")
    await service.client.get("/hush")
    await service.client.get("/health/live")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert '"route": "/recommend", "status": 200' in lines[0]
    assert '"route": "/users/{user_id' in lines[1]
    assert not any("hush" in line for line in lines)
