"""The README is true: its example is answered as shown, its settings table is the code's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.metrics import Metrics
from service.settings import DEMO_CHECKPOINT, Settings
from tests.service.builders import serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "checkpoints/demo" if name == "checkpoint" else field.default
        rows.append(f"| `{name}` | `{default}` | {field.description} |")
    return "\n".join(rows)


def json_blocks() -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", README, re.S)]


def request_body() -> dict[str, Any]:
    found = re.search(r"-d '(\{.*?\})'", README, re.S)
    assert found
    body: dict[str, Any] = json.loads(found[1])
    return body


def test_settings_table_is_the_codes() -> None:
    assert settings_table() in README


def test_every_metric_is_told() -> None:
    families = {family.name: family.type for family in Metrics().registry.collect()}
    told = set(re.findall(r"^\| `(mfalcon_[a-z_]+)", README, re.M))
    assert told == {
        f"{name}_total" if kind == "counter" else name
        for name, kind in families.items()
        if not name.startswith("process_")
    }


def test_every_command_in_the_readme_is_a_make_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z-]+)", README)) <= targets


@pytest.mark.anyio
async def test_the_example_is_answered_as_shown() -> None:
    first, again = json_blocks()
    async with serving(DEMO_CHECKPOINT) as service:
        answers = [await service.recommend(**request_body()) for _ in range(2)]
    for shown, answer in zip((first, again), answers, strict=True):
        assert shown["cache"] | {"tier": None} == answer["cache"] | {"tier": None}
        assert shown["complete"] is answer["complete"]
        for item, expected in zip(answer["items"], shown.get("items", []), strict=False):
            assert item["metadata"] == expected["metadata"]
            assert item["score"] == pytest.approx(expected["score"], abs=1e-3)
            assert item["actions"] == pytest.approx(expected["actions"], abs=1e-3)
    assert [item["item_id"] for item in first["items"]] == [
        item["item_id"] for item in answers[0]["items"]
    ]
