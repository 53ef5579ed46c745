"""Owns the checkpoint folders that the model's tests save, load and damage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint import CONFIG, ITEMS, WEIGHTS, Checkpoint
from model.items import Items
from tests.model.builders import EVERY_ITEM, make_network, tiny_config

FILES = {CONFIG, WEIGHTS, ITEMS}

Table = dict[str, object]
Edit = Callable[[Table], object]


def make_checkpoint(*, seed: int = 0, title: str = "film", **overrides: Any) -> Checkpoint:
    rows = [{"item_id": f"i{n}", "title": f"{title} {n}"} for n in EVERY_ITEM]
    network = make_network(tiny_config(num_layers=1, **overrides), seed=seed)
    return Checkpoint("tiny", network, Items(rows), {"data": "made up", "epochs": 3})


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def edit_config(folder: Path, edit: Edit) -> None:
    path = folder / CONFIG
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def edit_items(folder: Path, old: str, new: str) -> None:
    text = (folder / ITEMS).read_text()
    assert old in text
    (folder / ITEMS).write_text(text.replace(old, new))


def within(table: Table, *path: str) -> Table:
    """A table within a table."""
    for name in path:
        inner = table[name]
        assert isinstance(inner, dict)
        table = inner
    return table
