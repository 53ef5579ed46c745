"""Time buckets to the second, and position biases past the end of their table."""

from decimal import Decimal, localcontext

import pytest
import torch

from model.config import HSTUConfig, TimeBucketing
from model.network.bias import RelativeBias, TimeBuckets, distance_buckets
from tests.model.builders import make_network, tiny_config

CONFIG = tiny_config()


def bucket_by_definition(span_s: int, config: HSTUConfig = CONFIG) -> int:
    """floor(ln(max(1, span)) / width) to fifty digits: doubles err beside a boundary."""
    assert config.time_bias is not None
    with localcontext() as context:
        context.prec = 50
        bucket = int(Decimal(max(1, span_s)).ln() / Decimal(config.time_bias.width))
    return min(bucket, config.time_bias.num_buckets)


def buckets(spans_s: list[int], config: HSTUConfig = CONFIG) -> list[int]:
    spans = torch.tensor(spans_s)
    found: list[int] = TimeBuckets(config.time_bias)(spans, torch.zeros_like(spans)).tolist()
    return found


def test_zero_and_one_second_share_the_first_bucket() -> None:
    assert buckets([0, 1, 2, 3, 60, 3_600, 86_400]) == [0, 0, 2, 3, 13, 27, 37]


def test_every_boundary_is_exact_to_the_second() -> None:
    """Up to a million years, far past where float32 knows whole seconds (2 ** 24)."""
    boundaries = [b for b in TimeBuckets(CONFIG.time_bias).boundaries.tolist() if b < 2**45]
    assert len(boundaries) > 100
    spans = [b + step for b in boundaries for step in (-1, 0, 1)]
    assert buckets(spans) == [bucket_by_definition(span) for span in spans]
    below, at = spans[3 * 60], spans[3 * 60 + 1]
    assert buckets([below, at]) == [60, 61]


@pytest.mark.parametrize("span_s", [2**24 + 1, 2**31, 2**40 + 12_345, 2**52, 2**55 - 3, 2**62])
def test_huge_spans_have_their_bucket(span_s: int) -> None:
    assert buckets([span_s]) == [bucket_by_definition(span_s)]


def test_spans_past_the_last_bucket_share_it() -> None:
    config = tiny_config(time_bias=TimeBucketing(num_buckets=5, width=1.0))
    assert buckets([54, 55, 148, 149, 10**6, 2**61], config) == [3, 4, 4, 5, 5, 5]


def test_another_width_has_other_boundaries() -> None:
    config = tiny_config(time_bias=TimeBucketing(num_buckets=70, width=0.7))
    spans = [*range(200), 10**6, 10**9, 10**12]
    assert buckets(spans, config) == [bucket_by_definition(span, config) for span in spans]


def test_a_bucket_ignores_the_sign() -> None:
    """A request may be older than the newest event."""
    spans = torch.tensor([0, 1, 7, 5_000, 2**40])
    find = TimeBuckets(CONFIG.time_bias)
    forward, backward = find(spans, torch.zeros_like(spans)), find(torch.zeros_like(spans), spans)
    assert forward.tolist() == backward.tolist()
    assert forward.dtype == torch.int32


def test_a_bucket_does_not_depend_on_the_layout() -> None:
    """Scalar, vectorised, strided and broadcast alike; also beside every boundary."""
    find = TimeBuckets(CONFIG.time_bias)
    edges = find.boundaries[:110]
    spans = torch.cat((edges - 1, edges, edges + 1))
    zero = torch.tensor(0)
    expected = find(spans, zero)
    one_by_one = torch.stack([find(span, zero) for span in spans])
    strided = find(spans.repeat_interleave(3)[::3], zero)
    table = find(spans[:, None] + spans[None, :7], spans[None, :7])
    assert one_by_one.tolist() == expected.tolist()
    assert strided.tolist() == expected.tolist()
    assert all(column.tolist() == expected.tolist() for column in table.T)


@pytest.mark.parametrize("bias_heads", ["shared", "per_head"])
def test_distances_past_the_table_share_its_last_entry(bias_heads: str) -> None:
    bias = make_network(tiny_config(bias_heads=bias_heads, max_distance=4)).blocks[0].bias
    heads = 1 if bias_heads == "shared" else 2
    found = bias.by_distance(torch.tensor([0, 1, 2, 3, 4, 5, 1000]))
    assert found.shape == (heads, 7)
    assert torch.equal(found, bias.position[:, [0, 1, 2, 3, 3, 3, 3]])


def test_far_distances_share_buckets_that_grow() -> None:
    """T5's: of 8 buckets, 4 hold one distance each and 4 grow up to max_distance."""
    found = distance_buckets(8, 64)
    assert found is not None
    ends = [4 * 16 ** (step / 4) for step in range(1, 4)]  # 8, 16, 32
    expected = [
        distance if distance < 4 else 4 + sum(distance >= end for end in ends)
        for distance in range(64)
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize(("buckets", "longest"), [(2, 3), (5, 7), (32, 128), (31, 32), (16, 5000)])
def test_every_bucket_of_distances_is_used_and_in_order(buckets: int, longest: int) -> None:
    """One public code has the sign wrong: every past event falls into bucket 0."""
    found = distance_buckets(buckets, longest)
    assert found is not None
    assert len(found) == longest
    assert bool((found.diff() >= 0).all())
    assert (int(found[0]), int(found[-1])) == (0, buckets - 1)
    near = buckets // 2
    assert found[:near].tolist() == list(range(near))


def test_events_of_one_bucket_share_its_learnt_entry() -> None:
    config = tiny_config(bias_heads="per_head", max_distance=20, position_buckets=6)
    bias = make_network(config).blocks[0].bias
    assert bias.position.shape == (2, 6)
    found = bias.by_distance(torch.tensor([0, 1, 2, 3, 19, 500]))
    assert torch.equal(found, bias.position[:, [0, 1, 2, 3, 5, 5]])
    bias.by_distance(torch.arange(20)).sum().backward()
    grad = bias.position.grad
    assert grad is not None
    assert float(grad.sum()) == 40
    assert bool((grad > 0).all())


def test_a_bias_is_the_sum_of_position_and_time() -> None:
    bias = RelativeBias(tiny_config(bias_heads="per_head"))
    distance, bucket = torch.tensor([[0, 2], [3, 1]]), torch.tensor([[5, 0], [64, 128]])
    found = bias(distance, bucket)
    assert found.shape == (2, 2, 2)
    for head in range(2):
        expected = bias.position[head][distance] + bias.time[head][bucket]
        assert torch.equal(found[head], expected)
