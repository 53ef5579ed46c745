"""Owns what the training tests share: training seeds torch, so its state is put back."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        yield
