"""Pages of other origins: refused by every browser, unless the setting names them."""

from pathlib import Path

import httpx
import pytest

from service.configuration import load_settings
from service.settings import SettingsError
from tests.service.builders import Service, serving
from tests.service.test_keys import OLD, PAIRS, bearer

pytestmark = pytest.mark.anyio

SHOP, STRANGER = "https://shop.example", "https://stranger.example"


async def preflight(client: httpx.AsyncClient, origin: str) -> httpx.Response:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}
    return await client.options("/recommend", headers={"Origin": origin} | asks)


def allowed(response: httpx.Response) -> str | None:
    found: str | None = response.headers.get("Access-Control-Allow-Origin")
    return found


async def test_by_default_no_origin_is_allowed(service: Service) -> None:
    assert allowed(await preflight(service.client, SHOP)) is None
    response = await service.client.get("/info", headers={"Origin": SHOP})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_named_origins_are_allowed_and_asked_for_their_keys(folder: Path) -> None:
    origins = f"{SHOP}, https://app.example:8443"
    async with serving(folder, cors_origins=origins, api_keys=PAIRS) as service:
        asked = await preflight(service.client, SHOP)
        assert (asked.status_code, allowed(asked)) == (200, SHOP)
        assert "X-API-Key" in asked.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in asked.headers
        assert allowed(await preflight(service.client, STRANGER)) is None
        for headers, status in (({}, 401), (bearer(OLD), 200)):
            given = {"Origin": SHOP} | headers
            response = await service.client.post("/recommend", json={"user_id": "u"}, headers=given)
            assert (response.status_code, allowed(response)) == (status, SHOP)


async def test_a_star_allows_all(folder: Path) -> None:
    async with serving(folder, cors_origins="*") as service:
        assert allowed(await preflight(service.client, STRANGER)) == "*"


@pytest.mark.parametrize(
    "wrong", ["shop.example", "https://shop.example/", "https://*.example", "ftp://a", "null", "**"]
)
def test_what_is_no_origin_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"cors_origins \(--cors-origins"):
        load_settings({"cors_origins": f"{SHOP},{wrong}"})
