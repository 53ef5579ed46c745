"""Owns letting through the warnings of the packages that are compared with, and only theirs."""

from pathlib import Path

import pytest

_THEIRS = (
    "ignore:unique with argument that is not:FutureWarning",
    "ignore:Ignoring `CatFeaturesItemNet` block:UserWarning",
    "ignore:Pydantic serializer warnings:UserWarning",
    "ignore::UserWarning:pytorch_lightning",
    "ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for rule in _THEIRS:
                item.add_marker(pytest.mark.filterwarnings(rule))
