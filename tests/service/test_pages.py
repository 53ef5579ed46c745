"""What describes the service: /info, the demo page, and the OpenAPI document."""

from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import Checkpoint
from service.settings import Settings
from tests.service.builders import ACTIONS, ITEM_IDS, Service, serving

pytestmark = pytest.mark.anyio

JSON_PROBLEM = "application/problem+json"


async def test_info_tells_the_checkpoint_and_the_limits_in_force(
    folder: Path, checkpoint: Checkpoint
) -> None:
    async with serving(folder, max_candidates=77, max_budget_ms=123.5) as service:
        info = (await service.client.get("/info")).json()
    assert info["model"]["name"] == "tiny"
    assert info["model"]["fingerprint"] == checkpoint.digests().fingerprint.hex()
    assert info["model"]["cacheability"] == "exact across requests"
    assert info["model"]["config"]["num_layers"] == 2
    assert info["actions"] == list(ACTIONS)
    assert info["limits"]["max_candidates"] == 77
    assert info["limits"]["max_budget_ms"] == 123.5
    assert set(info["limits"]) == {n for n in Settings.model_fields if n.startswith("max_")}
    assert info["sample_item_ids"] == ITEM_IDS
    assert info["store"] == {"tier": "memory", "url": "memory", "dtype": "float32"}
    assert info["version"]


async def test_info_masks_the_stores_credentials(folder: Path) -> None:
    """The store is not asked before the first request, so nothing has to listen there."""
    async with serving(folder, store="redis://somebody:hush@127.0.0.1:9/0") as service:
        response = await service.client.get("/info")
    store = response.json()["store"]
    assert store["url"] == "redis://***@127.0.0.1:9/0"
    assert "hush" not in response.text


async def test_the_demo_page_is_served_and_needs_no_other_host(service: Service) -> None:
    response = await service.client.get("/")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "<title>mfalcon</title>" in response.text
    assert "//" not in response.text.replace("<!doctype", "")


@pytest.fixture
async def document(service: Service) -> dict[str, Any]:
    response = await service.client.get("/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        ("/recommend", "post", {"200", "401", "408", "413", "422", "429", "500", "503", "504"}),
        ("/events", "post", {"200", "401", "408", "413", "422", "500", "503"}),
        ("/recommend/batch", "post", {"200", "401", "408", "413", "422", "500", "503"}),
        ("/events/batch", "post", {"200", "401", "408", "413", "422", "500", "503"}),
        ("/users/{user_id}/state", "get", {"200", "404", "422", "500", "503"}),
        ("/users/{user_id}/state", "delete", {"200", "422", "500", "503"}),
        ("/info", "get", {"200", "500", "503"}),
        ("/health/live", "get", {"200", "503"}),
        ("/health/ready", "get", {"200", "503"}),
        ("/metrics", "get", {"200"}),
    ],
)
async def test_the_error_statuses_are_documented(
    document: dict[str, Any], path: str, method: str, statuses: set[str]
) -> None:
    documented = document["paths"][path][method]["responses"]
    assert statuses <= set(documented)
    if path.startswith("/health"):
        return
    for status in statuses - {"200"}:
        schema = documented[status]["content"][JSON_PROBLEM]["schema"]
        assert {"status", "code", "detail", "request_id"} <= set(schema["required"])


async def test_every_request_field_of_the_contract_is_documented(document: dict[str, Any]) -> None:
    fields = document["components"]["schemas"]["RecommendRequest"]["properties"]
    assert set(fields) == {
        *("user_id", "events", "history_mode", "candidates", "num_results", "exclude_seen"),
        *("budget_ms", "request_time", "history_size", "include", "mode", "beam"),
    }
    assert document["info"]["title"] == "mfalcon"
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_the_interactive_documentation_is_served(service: Service) -> None:
    assert (await service.client.get("/docs")).status_code == 200
