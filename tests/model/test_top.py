"""The best scores, ties by their place, whatever `topk` would take."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.top import in_order, top


@given(st.lists(st.sampled_from([-torch.inf, -1.0, 0.0, 0.5, 2.0]), max_size=40), st.data())
def test_the_best_come_first_and_ties_by_place(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(scores)))
    places, best = top(torch.tensor(scores), k)
    expected = sorted(range(len(scores)), key=lambda place: -scores[place])[:k]
    assert places.tolist() == expected
    assert best.tolist() == [scores[place] for place in expected]


def test_given_places_are_put_in_order() -> None:
    places, best = in_order(torch.tensor([3.0, 1.0, 3.0, 9.0]), torch.tensor([2, 1, 0]))
    assert places.tolist() == [2, 0, 1]
    assert best.tolist() == pytest.approx([3.0, 3.0, 1.0])
