"""Pointwise SiLU attention by its formula: masks act after SiLU, divisors never see a batch."""

import pytest
import torch
from torch.nn import functional as F

from model.network.attention import attend, divisors
from tests.model.builders import assert_close, tiny_config

CONFIG = tiny_config()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias_shape", [(1, 3, 5), (2, 3, 5), (1, 1, 5), (2, 1, 5)])
def test_attention_is_the_formula(bias_shape: tuple[int, int, int]) -> None:
    q, k, v = normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 6, seed=2)
    bias = normal(*bias_shape, seed=3)
    out = attend(CONFIG, q, k, v, bias)
    assert out.shape == (2, 3, 6)
    for head in range(2):
        for row in range(3):
            own = bias[min(head, bias_shape[0] - 1), min(row, bias_shape[1] - 1)]
            weights = F.silu(k[head] @ q[head, row] + own)
            assert_close([out[head, row]], [weights @ v[head]])


def test_a_masked_key_adds_nothing_however_large_its_bias() -> None:
    q, k, v = normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 6, seed=2)
    bias = torch.full((1, 3, 5), 50.0)
    mask = torch.ones(3, 5)
    mask[:, 3:] = 0
    expected = attend(CONFIG, q, k[:, :3], v[:, :3], bias[:, :, :3])
    assert_close([attend(CONFIG, q, k, v, bias, mask)], [expected], tolerance=1e-4)


def test_inputs_are_left_as_they_are() -> None:
    """The scores are worked on in place; a bias shared by candidates must not be."""
    q, k, v, bias = normal(2, 1, 4), normal(2, 5, 4), normal(2, 5, 6), normal(2, 1, 5)
    tensors = (q, k, v, bias)
    before = [tensor.clone() for tensor in tensors]
    attend(CONFIG, q, k, v, bias, torch.ones(1, 5))
    assert_close(tensors, before, tolerance=0)


def test_no_keys_attend_to_nothing() -> None:
    out = attend(CONFIG, normal(2, 3, 4), normal(2, 0, 4), normal(2, 0, 6), normal(1, 1, 0))
    assert torch.equal(out, torch.zeros(2, 3, 6))


def test_a_counting_divisor_is_the_number_of_keys() -> None:
    found = divisors(tiny_config(divisor="count"), torch.tensor([[1, 2], [30, 4]]))
    assert found.tolist() == [[1.0, 2.0], [30.0, 4.0]]


def test_a_constant_divisor_is_the_same_for_every_row() -> None:
    found = divisors(tiny_config(divisor=256.0), torch.tensor([1, 2, 30]))
    assert found.tolist() == [256.0] * 3
    assert divisors(tiny_config(divisor=256.0), torch.tensor(3)).shape == ()
