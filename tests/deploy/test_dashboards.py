"""Alert rules and dashboard name metrics that there are, with the labels that they have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "mfalcon.json"
OF_PROMETHEUS = {"job", "instance"}
TIERS = {"tier"}  # of metrics that are read off the tiers when asked for

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool, of Prometheus, is not on PATH"
)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + dashboard_expressions()


def series() -> dict[str, set[str]]:
    """The label names of every series that /metrics can have."""
    metrics = Metrics()
    metrics.watch_tier("device", int, int)
    labels: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            labels[metric._name] = set(metric._labelnames)
    found = {}
    for family in metrics.registry.collect():
        of_family = labels.get(family.name, TIERS)
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        for suffix in suffixes.get(family.type, [""]):
            found[family.name + suffix] = of_family | ({"le"} if suffix == "_bucket" else set())
    return found


def uses(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric named, with the labels it is selected by."""
    for name, selector in re.findall(r"\b((?:mfalcon|process)_[a-z_]+)(\{.*?\})?", expression):
        yield name, set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))


def test_every_metric_named_exists_with_its_labels() -> None:
    known = series()
    assert {"mfalcon_requests_total", "mfalcon_request_seconds_bucket"} <= set(known)
    for expression in expressions():
        found = list(uses(expression))
        assert found or "up{" in expression, expression
        grouped = {
            label.strip()
            for labels in re.findall(r"\bby \(([^)]*)\)", expression)
            for label in labels.split(",")
        }
        for name, selected in found:
            assert name in known, name
            assert selected <= known[name] | OF_PROMETHEUS, (name, selected)
        of_all = set().union(OF_PROMETHEUS, *(known[name] for name, _ in found))
        assert grouped <= of_all, expression


def test_every_alert_says_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "warn")
        assert {"summary", "runbook"} == set(rule["annotations"])


def test_every_alert_is_in_the_rules_test() -> None:
    tested = (DEPLOY / "prometheus" / "rules_test.yaml").read_text()
    assert [rule["alert"] for rule in rules() if f'"{rule["alert"]}"' not in tested] == []


def test_panels_have_their_own_places() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "rules.yaml"),
        ("check", "config", "prometheus.yaml"),
        ("test", "rules", "rules_test.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing(command: tuple[str, ...]) -> None:
    promtool(*command, folder=RULES.parent)


@needs_promtool
def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    asked = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": asked}]}))
    promtool("check", "rules", str(file), folder=tmp_path)


def promtool(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
