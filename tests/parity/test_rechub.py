"""Imported torch-rechub models say what torch-rechub itself says, on random weights."""

from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from model.importers.formats import import_file
from model.importers.options import ImportOptions
from tests.parity.comparing import LENGTH, NUM_ITEMS, User, assert_same, randomise, users

hstu = pytest.importorskip(
    "torch_rechub.models.generative.hstu", reason="needs torch-rechub: make parity"
)

BUCKETS: dict[str, tuple[Literal["log", "sqrt"], int, float]] = {
    "sqrt-minutes": ("sqrt", 60, 1.0),
    "sqrt-seconds": ("sqrt", 1, 7.0),
    "log-minutes": ("log", 60, 0.5),
    "log-seconds": ("log", 1, 0.301),
}
SCORES: dict[str, tuple[dict[str, Any], ImportOptions]] = {
    "dot": ({"score_norm": "none"}, ImportOptions()),
    "cosine": (
        {
            "score_norm": "l2",
            "temperature": 0.05,
            "scale_input_embedding": True,
            "use_output_bias": True,
        },
        ImportOptions(similarity="cosine", temperature=0.05, item_scale="sqrt_d"),
    ),
}
SHAPES: dict[str, dict[str, Any]] = {
    "one-head": {"n_heads": 1, "n_layers": 1, "dqk": 8, "dv": 16},
    "heads": {"n_heads": 2, "n_layers": 3, "dqk": 12, "dv": 5},
    "ages": {"n_heads": 4, "n_layers": 2, "dqk": 3, "dv": 4, "use_time_embedding": True},
}


def build(**settings: Any) -> Any:
    arguments = {
        "vocab_size": NUM_ITEMS + 1,
        "d_model": 16,
        "max_seq_len": LENGTH,
        "num_time_buckets": 40,
        "use_time_embedding": False,
        "use_output_bias": False,
    }
    model = hstu.HSTUModel(**(arguments | settings))
    randomise(model)
    return model


def answer(model: Any, user: User) -> tuple[Tensor, Tensor]:
    """The newest event's hidden state (D,) and the items' logits."""
    ages = torch.zeros(LENGTH, dtype=torch.int64)
    ages[LENGTH - len(user.history) :] = user.now - user.history.timestamps
    seen: list[Tensor] = []
    handle = model.hstu_block.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        logits = model(user.padded_left()[None], ages[None])
    handle.remove()
    return seen[0][0, -1], logits[0, -1, 1:]


@pytest.mark.parametrize(("shape", "buckets", "score"), list(product(SHAPES, BUCKETS, SCORES)))
def test_hidden_states_and_logits_are_the_packages(
    shape: str, buckets: str, score: str, tmp_path: Path
) -> None:
    fn, unit_s, width = BUCKETS[buckets]
    settings, options = SCORES[score]
    model = build(
        **SHAPES[shape],
        **settings,
        time_bucket_fn=fn,
        time_bucket_unit="minutes" if unit_s == 60 else "seconds",
        time_bucket_divisor=width,
    )
    torch.save(model.state_dict(), tmp_path / "model.pt")
    times = {"time_fn": fn, "time_unit_s": unit_s, "time_width": width}
    options = options.model_copy(update=times)
    imported = import_file("rechub", tmp_path / "model.pt", options)
    for user in users():
        assert_same(imported, user, *answer(model, user))


def test_options_left_out_are_the_packages_defaults(tmp_path: Path) -> None:
    defaults = {"d_model": 16, "n_heads": 2, "n_layers": 2, "dqk": 4, "dv": 6}
    model = hstu.HSTUModel(NUM_ITEMS + 1, max_seq_len=LENGTH, **defaults)
    randomise(model)
    torch.save({"epoch": 3, "model_state_dict": model.state_dict()}, tmp_path / "model.pth")
    imported = import_file("rechub", tmp_path / "model.pth", ImportOptions())
    for user in users(seed=1):
        assert_same(imported, user, *answer(model, user))
