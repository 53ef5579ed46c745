"""The operations of training are those of the products that the formulation has."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.config import HSTUConfig
from model.network.batch import to_batch
from model.network.hstu import HSTU
from model.operations import Operations
from model.presets import native, sasrec
from tests.model.builders import NUM_ITEMS, random_history

SIZES = {"d_model": 8, "num_layers": 3, "num_heads": 2, "qk_dim": 4, "v_dim": 4}
CONFIGS: dict[str, HSTUConfig] = {
    "native": native(NUM_ITEMS, tasks=(), **SIZES),
    "concat_ua": native(NUM_ITEMS, tasks=(), output="concat_ua", **SIZES),
    "unprojected": native(NUM_ITEMS, tasks=(), output="unprojected", ffn_multiple=4, **SIZES),
    "sasrec": sasrec(NUM_ITEMS, **SIZES),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_forward_pass_has_the_operations_that_torch_counts(name: str) -> None:
    """Over users with one event before the one to predict: none of the products is of padding, or
    of a pair of rows that a mask drops."""
    users = 5
    batch = to_batch([random_history(2, seed=user) for user in range(users)])
    with torch.random.fork_rng():
        network = HSTU(CONFIGS[name])
        head = network.retrieval
        with FlopCounterMode(display=False) as counter:
            queries = head.prepare(network(batch).events)
            head(queries, head.prepare_items(network.items.weight))
    forward = counter.get_total_flops() // users
    assert Operations(CONFIGS[name]).learn_items(2) == 3 * forward


@pytest.mark.parametrize(("fusion", "products"), [("gate", 2), ("mlp", 3)])
def test_fusion_is_counted_once_for_each_input_row(fusion: str, products: int) -> None:
    summed, fused = (
        Operations(native(NUM_ITEMS, fusion=kind, **SIZES)) for kind in ("sum", fusion)
    )
    more = 2 * products * 8 * 8
    assert fused.encode(2, 5) - summed.encode(2, 5) == 3 * more
    assert fused.score(4, 7) - summed.score(4, 7) == 7 * more
    assert fused.learn_actions(4) - summed.learn_actions(4) == 3 * 4 * more


def test_a_step_grows_with_the_pairs_of_rows_and_with_what_targets_compete_with() -> None:
    operations = Operations(CONFIGS["native"])
    linear = 2 * 8 * (4 * 8 + 8)
    pair = 2 * 2 * (4 + 4)
    rows, pairs = 6, 21
    encoded = 3 * (rows * linear + pairs * pair)
    assert operations.learn_items(7) == 3 * (encoded + rows * 2 * 8 * NUM_ITEMS)
    assert operations.learn_items(7, 5) == 3 * (encoded + rows * 2 * 8 * 5)


def test_candidate_rows_see_what_is_before_them_and_themselves() -> None:
    config = native(NUM_ITEMS, **SIZES)
    operations = Operations(config)
    one_by_one = sum(operations.score(num_events, 1) for num_events in range(4))
    assert operations.learn_actions(4) == 3 * one_by_one
