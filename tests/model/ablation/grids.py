"""Owns the small grid that the tests of ablations run."""

import os
from typing import Any

from model.ablation.grid import Grid
from tests.model.training.data import cycling_users, interactions_of

NUM_ITEMS = 30
DATA = interactions_of(cycling_users(24, 12, NUM_ITEMS), NUM_ITEMS)

BASE = {
    "d_model": 8,
    "layers": 1,
    "heads": 1,
    "head_dim": 8,
    "window": 6,
    "epochs": 3,
    "batch_users": 8,
    "learning_rate": 0.01,
    "action_weight": 0,
}


def grid(**fields: Any) -> Grid:
    given = {"question": "Which?", "seeds": [0], "base": BASE, "variants": {}}
    return Grid.model_validate(given | fields)


def killed(*_: object) -> None:
    """A run whose process goes without a word."""
    os._exit(9)
