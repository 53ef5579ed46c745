"""API keys and the admin key: who is let in, what the refusal says, what is never shown."""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from service.api.guard import Admin
from service.app import create_app
from service.configuration import load_settings, printable
from service.keys import Keys, client_pairs
from service.settings import SettingsError
from tests.service.builders import Service, serving
from tests.service.test_middleware import FIFTY_MB, JSON_TYPE, Upload
from tests.service.test_problems import assert_problem

pytestmark = pytest.mark.anyio

OLD, NEW, OTHER = "old-shop-key-0123", "new-shop-key=0123", "other-key-01234567"
ADMIN_KEY = "admin-key-01234567"
PAIRS = f"shop={OLD},shop={NEW}, app={OTHER}"
OPEN = ["/", "/health/live", "/metrics", "/docs", "/openapi.json"]
GUARDED = [
    ("POST", "/recommend"),
    ("POST", "/events"),
    ("GET", "/users/u/state"),
    ("DELETE", "/users/u/state"),
    ("GET", "/info"),
    ("GET", "/nowhere"),
    ("OPTIONS", "/recommend"),
]


@asynccontextmanager
async def asking(**flags: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that was not started: who gets past the keys learns who they are."""
    app = create_app(load_settings(flags))

    @app.get("/whoami")
    async def whoami(request: Request) -> str:
        return str(request.state.client)

    @app.post("/admin/act", dependencies=[Admin])
    async def act(request: Request) -> str:
        return str(request.state.client)

    @app.post("/misplaced", dependencies=[Admin])
    async def misplaced() -> None: ...

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://mfalcon") as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("key", "name"), [(OLD, "shop"), (NEW, "shop"), (OTHER, "app")])
async def test_a_client_is_known_by_each_of_its_keys_in_either_header(key: str, name: str) -> None:
    async with asking(api_keys=PAIRS) as client:
        for headers in (bearer(key), {"X-API-Key": key}, {"authorization": f"bearer  {key}"}):
            response = await client.get("/whoami", headers=headers)
            assert (response.status_code, response.json()) == (200, name)


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_without_a_known_key_everything_but_the_open_routes_is_a_401(
    method: str, path: str
) -> None:
    async with asking(api_keys=PAIRS, admin_key=ADMIN_KEY) as client:
        refused: list[dict[str, str]] = [
            {},
            bearer(""),
            bearer(OLD[:-1]),
            bearer(OLD + "0"),
            bearer("shop"),
            bearer(ADMIN_KEY),
            {"X-API-Key": "\u00e9"},
            {"Authorization": f"Basic {OLD}"},
            {"Authorization": OLD},
            {"Cookie": f"X-API-Key={OLD}"},
        ]
        for headers in refused:
            coded = {name.encode(): value.encode() for name, value in headers.items()}
            response = await client.request(method, path, headers=coded)
            problem = assert_problem(response, 401, "unauthorized")
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="mfalcon"'
            assert "X-API-Key" in problem["detail"]
            assert not any(key in response.text for key in (OLD, NEW, OTHER, ADMIN_KEY))
        by_query = await client.request(method, path, params={"api_key": OLD})
        assert by_query.status_code == 401


@pytest.mark.parametrize("path", OPEN)
async def test_probes_metrics_and_docs_stay_open(path: str) -> None:
    async with asking(api_keys=PAIRS) as client:
        assert (await client.get(path)).status_code == 200


async def test_without_keys_everybody_is_anonymous() -> None:
    async with asking() as client:
        assert (await client.get("/whoami", headers=bearer(OLD))).json() == "anonymous"


async def test_a_body_without_a_key_is_not_read() -> None:
    async with asking(api_keys=PAIRS) as client:
        upload = Upload(FIFTY_MB)
        response = await client.post("/recommend", content=upload, headers=JSON_TYPE)
        assert_problem(response, 401, "unauthorized")
        assert upload.bytes_taken == 0
        assert response.headers["Connection"] == "close"


async def test_a_key_opens_the_service(folder: Path) -> None:
    async with serving(folder, api_keys=PAIRS) as service:
        body = {"user_id": "u"}
        assert (await service.client.post("/recommend", json=body)).status_code == 401
        response = await service.client.post("/recommend", json=body, headers=bearer(NEW))
        assert response.status_code == 200


async def test_admin_routes_take_the_admin_key_alone() -> None:
    async with asking(api_keys=PAIRS, admin_key=ADMIN_KEY) as client:
        for headers in ({}, bearer(OLD)):
            response = await client.post("/admin/act", headers=headers)
            assert "admin key" in assert_problem(response, 401, "unauthorized")["detail"]
        for headers in (bearer(ADMIN_KEY), {"X-API-Key": ADMIN_KEY}):
            response = await client.post("/admin/act", headers=headers)
            assert (response.status_code, response.json()) == (200, "admin")


@pytest.mark.parametrize("flags", [{}, {"api_keys": PAIRS}], ids=["open", "API keys"])
async def test_without_an_admin_key_admin_routes_are_closed(flags: dict[str, str]) -> None:
    async with asking(**flags) as client:
        for headers in ({}, bearer(OLD), bearer("")):
            response = await client.post("/admin/act", headers=headers)
            assert "MFALCON_ADMIN_KEY" in assert_problem(response, 403, "forbidden")["detail"]


async def test_an_admin_route_in_the_wrong_place_lets_nobody_in() -> None:
    async with asking(admin_key=ADMIN_KEY) as client:
        assert_problem(await client.post("/misplaced", headers=bearer(ADMIN_KEY)), 403, "forbidden")


def test_all_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keys = Keys(client_pairs(PAIRS))
    for key in (OLD, OTHER, "x", "x" * 10_000):
        compared.clear()
        keys.client(key.encode())
        assert compared == [(32, 32)] * 3


async def test_keys_come_from_a_file_beside_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the shop\nshop={OLD}\n\n  shop={NEW}\n")
    async with asking(api_keys=f"app={OTHER}", api_keys_file=str(path)) as client:
        for key, name in ((OLD, "shop"), (NEW, "shop"), (OTHER, "app")):
            assert (await client.get("/whoami", headers=bearer(key))).json() == name
        assert (await client.get("/whoami")).status_code == 401


async def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFALCON_API_KEYS", PAIRS)
    monkeypatch.setenv("MFALCON_ADMIN_KEY", ADMIN_KEY)
    async with asking() as client:
        assert (await client.get("/whoami", headers=bearer(OTHER))).json() == "app"
        assert (await client.post("/admin/act", headers=bearer(ADMIN_KEY))).json() == "admin"


WRONG: list[tuple[str, str]] = [
    ("api_keys", "hush-hush-hush-hush"),
    ("api_keys", "shop=hush"),
    ("api_keys", "=hush-hush-hush-hush"),
    ("api_keys", "sh op=hush-hush-hush-hush"),
    ("api_keys", "admin=hush-hush-hush-hush"),
    ("api_keys", "anonymous=hush-hush-hush-hush"),
    ("api_keys", "shop=hush-hush-hush-hüsh"),
    ("api_keys", "shop=hush-hush-hush-hush,app=hush-hush-hush-hush"),
    ("api_keys", " , "),
    ("admin_key", "hush"),
    ("admin_key", "hush hush hush hush"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_key_is_refused_without_being_quoted(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} \(--") as raised:
        load_settings({name: value})
    assert "hush" not in str(raised.value)
    assert "hush" not in str(raised.value.__cause__)


@pytest.mark.parametrize("content", [b"", b"# none\n", b"shop=hush\n", b"shop=\xff", None])
def test_a_wrong_file_of_keys_is_refused_without_being_quoted(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"api_keys_file \(--") as raised:
        load_settings({"api_keys_file": str(path)})
    assert "hush" not in str(raised.value)


def test_the_admin_key_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"shop={OLD}")
    for flags in ({"api_keys": PAIRS}, {"api_keys_file": str(path)}):
        with pytest.raises(SettingsError, match=r"admin_key .*take another"):
            load_settings(flags | {"admin_key": OLD})


def test_keys_are_never_shown() -> None:
    settings = load_settings({"api_keys": PAIRS, "admin_key": ADMIN_KEY})
    shown = f"{settings!r} {settings} {printable(settings)}"
    assert not any(key in shown for key in (OLD, NEW, OTHER, ADMIN_KEY))
    masked = printable(settings)
    assert (masked["api_keys"], masked["admin_key"]) == ("***", "***")
    assert printable(load_settings({}))["api_keys"] == ""


async def test_the_document_tells_of_keys(service: Service) -> None:
    free = (await service.client.get("/openapi.json")).json()
    async with asking(api_keys=PAIRS) as client:
        guarded = (await client.get("/openapi.json")).json()
    either: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
    assert set(free["components"]["securitySchemes"]) == {"bearer", "header"}
    assert free["paths"]["/recommend"]["post"]["security"] == [{}, *either]
    assert guarded["paths"]["/recommend"]["post"]["security"] == either
    assert "security" not in guarded["paths"]["/health/live"]["get"]
    assert guarded["paths"]["/admin/act"]["post"]["security"] == either
    assert "403" in guarded["paths"]["/admin/act"]["post"]["responses"]
    problem = guarded["paths"]["/recommend"]["post"]["responses"]["401"]["content"]
    example = problem["application/problem+json"]["example"]
    assert (example["status"], example["code"]) == (401, "unauthorized")
