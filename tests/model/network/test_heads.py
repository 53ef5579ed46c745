"""What is read off the rows: cosine over temperature, and probabilities by task."""

import pytest
import torch

from model.config import ActionTask, ValueFormula
from model.network.heads import ActionHead, RetrievalHead
from tests.model.builders import NUM_ITEMS, tiny_config


def test_retrieval_is_cosine_over_temperature() -> None:
    head = RetrievalHead(tiny_config(temperature=0.25))
    query = head.prepare(torch.tensor([3.0, 4.0]))
    items = head.prepare_items(torch.tensor([[6.0, 8.0], [-4.0, 3.0], [0.0, -2.0]]))
    assert head(query, items).tolist() == pytest.approx([4.0, 0.0, -3.2])


def test_a_row_of_zeros_has_no_direction() -> None:
    head = RetrievalHead(tiny_config())
    assert head.prepare(torch.zeros(2, 4)).tolist() == [[0.0] * 4] * 2


def test_an_untrained_prior_prefers_no_item() -> None:
    prior = RetrievalHead(tiny_config()).prior
    assert prior.shape == (NUM_ITEMS,)
    assert float(prior.exp().sum()) == pytest.approx(1)
    assert len(prior.unique()) == 1


def test_each_task_has_probabilities_of_its_own_kind() -> None:
    tasks = (
        ActionTask(name="first", actions=("a", "b")),
        ActionTask(name="marks", kind="multilabel", actions=("c", "d", "e")),
        ActionTask(name="second", actions=("f", "g", "h")),
    )
    head = ActionHead(tiny_config(tasks=tasks, value=ValueFormula()))
    logits = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    found = head.probabilities(logits)
    expected = torch.cat(
        (logits[:, :2].softmax(1), logits[:, 2:5].sigmoid(), logits[:, 5:].softmax(1)), 1
    )
    assert torch.equal(found, expected)
    assert head(torch.zeros(3, 5, 16)).shape == (3, 5, 8)
