"""Owns the fixtures that the model's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.checkpoint import save
from tests.model.checkpoints import make_checkpoint


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, and wait for each other on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved checkpoint."""
    save(make_checkpoint(), tmp_path / "tiny")
    return tmp_path / "tiny"
