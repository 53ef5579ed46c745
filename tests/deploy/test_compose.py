"""compose.yaml starts a service with a store that evicts, and with what watches both."""

import json
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.deploy.dockerfile import ROOT

DEPLOY = ROOT / "deploy"


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def test_settings_exist(services: dict[str, Any]) -> None:
    names = {f"MFALCON_{name.upper()}" for name in Settings.model_fields}
    assert set(services["mfalcon"]["environment"]) <= names


def test_the_service_writes_nowhere_and_may_nothing(services: dict[str, Any]) -> None:
    service = services["mfalcon"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]


def test_the_store_is_a_cache(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "allkeys-lru"
    assert options["--maxmemory"]
    assert (options["--save"], options["--appendonly"]) == ("", "no")


def test_nothing_listens_beyond_this_machine(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_everything_mounted_is_there(services: dict[str, Any]) -> None:
    volumes = [volume for service in services.values() for volume in service.get("volumes", [])]
    assert volumes
    for volume in volumes:
        source, _, mode = volume.split(":")
        assert (ROOT / source).is_dir()
        assert mode == "ro"


def test_what_watches_finds_what_it_watches(services: dict[str, Any]) -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (job,) = scraped["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["mfalcon:8000"]}]
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "mfalcon.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "mfalcon.yaml").read_text())[
        "providers"
    ]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
