"""Imported networks say what their sources say, on tensors that the sources produced."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.history import History
from model.importers import genrec, meta
from model.importers.imported import Imported
from model.importers.options import ImportOptions
from model.importers.weights import ForeignWeights, ImportFailed
from model.kernels.tensor_stack import TensorStack
from tests.model.builders import encode

FIXTURES = Path(__file__).parents[2] / "fixtures"
TOLERANCE = 1e-5
# The sources' float32 is up to 1.5e-5 from the answer in float64, on logits of up to 11.7.
SOURCE_ROUNDING = 2e-5

Reader = Callable[[ForeignWeights, ImportOptions], Imported]
READERS: dict[str, Reader] = {
    "meta_hstu_tiny": meta.read,
    "meta_hstu_concat_ua": meta.read,
    "genrec_hstu_tiny": genrec.read,
}


def fixture(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The source's weights, its inputs and outputs, and what it says of itself."""
    tensors = load_file(FIXTURES / f"{name}.safetensors")
    weights = {k.removeprefix("weights."): t for k, t in tensors.items() if "weights." in k}
    facts: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return weights, tensors, facts


def read(name: str, weights: dict[str, Tensor], facts: dict[str, Any]) -> Imported:
    options = ImportOptions(heads=facts["num_heads"], length=facts.get("max_seq_len"))
    return READERS[name](ForeignWeights(weights), options)


def users(tensors: dict[str, Tensor]) -> list[tuple[History, int, int]]:
    """History, request time and place of each user; item 0 is the sources' padding."""
    found = []
    for place, n in enumerate(tensors["in.lengths"].tolist()):
        times = tensors["in.timestamps"][place, :n]
        now = tensors["in.query_time"][place] if "in.query_time" in tensors else times[-1]
        items = tensors["in.item_ids"][place, :n] - 1
        found.append((History(items, torch.zeros_like(items), times), int(now), place))
    return found


@pytest.mark.parametrize("name", READERS)
def test_logits_are_the_sources(name: str) -> None:
    """Both sides against float64: float32 answers differ with the processor's order of sums."""
    weights, tensors, facts = fixture(name)
    network = read(name, weights, facts).network()
    # The compiled stack rounds in another order; `tests/model/kernels` holds it to its own bound.
    engine, doubled = Engine(network, stack=TensorStack), copy.deepcopy(network).double()
    lengths = set()
    for history, now, place in users(tensors):
        oracle = Oracle(doubled, history, now)
        candidates = range(network.config.num_items)
        exact = torch.stack([oracle.score(candidate).retrieval for candidate in candidates])
        assert differ(exact, tensors["out.last_logits"][place, 1:]) <= SOURCE_ROUNDING
        live = encode(engine, history, now).live
        assert live is not None
        assert differ(exact, engine.retrieve(live)) <= TOLERANCE
        lengths.add(len(history))
        if "out.hidden" in tensors:
            assert live.query is not None
            assert differ(live.query, tensors["out.hidden"][place, len(history) - 1]) <= TOLERANCE
    assert 1 in lengths
    assert tensors["in.item_ids"].shape[1] in lengths


def differ(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("name", READERS)
def test_the_oracle_agrees(name: str) -> None:
    weights, tensors, facts = fixture(name)
    network = read(name, weights, facts).network()
    for history, now, place in users(tensors):
        oracle = Oracle(network, history, now)
        for candidate in (0, 17, network.config.num_items - 1):
            expected = tensors["out.last_logits"][place, candidate + 1]
            assert differ(oracle.score(candidate).retrieval, expected) <= SOURCE_ROUNDING


@pytest.mark.parametrize("name", READERS)
def test_a_missing_and_an_unknown_tensor_are_named(name: str) -> None:
    weights, _, facts = fixture(name)
    for gone in weights.keys() - {"_attn_mask"}:
        with pytest.raises(ImportFailed, match=gone.replace(".", r"\.")):
            read(name, {k: t for k, t in weights.items() if k != gone}, facts)
    with pytest.raises(ImportFailed, match="surprise"):
        read(name, weights | {"surprise": torch.zeros(1)}, facts)


def test_heads_are_asked_for_where_weights_do_not_tell() -> None:
    weights, _, _ = fixture("meta_hstu_tiny")
    with pytest.raises(ImportFailed, match="--heads"):
        meta.read(ForeignWeights(weights), ImportOptions())
