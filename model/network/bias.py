"""Owns the relative attention bias: position by distance, time by bucket.

Never knows which rows attend to which; callers pass distances and buckets.
Source: `RelativeBucketedTimeAndPositionBasedBias` of the research code of arXiv 2402.17152.
"""

import math

import torch
from torch import Tensor, nn

from model.config import HSTUConfig, TimeBucketing

_FAR_S = 2**62
"""Longer than any span: the boundary of a bucket that is never reached."""


class TimeBuckets(nn.Module):
    """Spans of seconds to buckets.

    Compared against integer boundaries instead of computed in floating point: a logarithm may
    differ by one unit in the last place between a vectorised and a scalar loop, and a bucket that
    depends on the layout of a batch would make scores depend on it.
    """

    boundaries: Tensor

    def __init__(self, bucketing: TimeBucketing | None) -> None:
        """Without a bucketing every span falls into bucket 0."""
        super().__init__()
        count = bucketing.num_buckets if bucketing else 0
        bounds = [_first_second(bucketing, k) for k in range(1, count + 1) if bucketing]
        self.register_buffer(
            "boundaries", torch.tensor(bounds, dtype=torch.int64), persistent=False
        )

    def forward(self, query_times: Tensor, key_times: Tensor) -> Tensor:
        """Buckets of |query - key|: int64 seconds in (broadcast), int32 out."""
        distance = (query_times - key_times).abs()
        return torch.bucketize(distance, self.boundaries, right=True, out_int32=True)


def _first_second(bucketing: TimeBucketing, bucket: int) -> int:
    """The shortest span in whole seconds that falls into `bucket`."""
    edge = bucketing.width * bucket
    if bucketing.fn == "sqrt":
        units = edge**2
    elif edge > math.log(_FAR_S):
        return _FAR_S
    else:
        units = math.exp(edge)
    return min(math.ceil(units * bucketing.unit_s), _FAR_S)


def distance_buckets(num_buckets: int, max_distance: int) -> Tensor | None:
    """Bucket of each distance 0 .. max_distance - 1 into the past; None without buckets.

    Source: arXiv 1910.10683, section 2.1: half of the buckets hold one distance each, the others
    grow evenly in the logarithm of the distance.
    """
    if not num_buckets:
        return None
    exact = num_buckets // 2
    growth = math.log(max_distance / exact) / (num_buckets - exact)
    far = [exact + int(math.log(d / exact) / growth) for d in range(exact, max_distance)]
    return torch.tensor([*range(exact), *(min(bucket, num_buckets - 1) for bucket in far)])


class RelativeBias(nn.Module):
    """One layer's bias tables, shared over heads (G = 1) or one per head (G = H).

    A model without one of the two has a single zero in its place, which is not learned.
    """

    position: Tensor  # (G, max_distance), or (G, position_buckets)
    time: Tensor  # (G, time buckets)
    bucket_of: Tensor | None  # (max_distance,) int64 bucket of each distance

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        bucketing = config.time_bias
        sizes = {
            "position": config.position_buckets or config.max_distance,
            "time": bucketing.num_buckets + 1 if bucketing else 0,
        }
        for name, size in sizes.items():
            table = torch.zeros(config.num_bias_heads, max(size, 1))
            if size:
                self.register_parameter(name, nn.Parameter(table.normal_(std=0.02)))
            else:
                self.register_buffer(name, table, persistent=False)

        buckets = distance_buckets(config.position_buckets, config.max_distance)
        self.register_buffer("bucket_of", buckets, persistent=False)

    @property
    def distances(self) -> Tensor:
        """The position bias of each distance from 0 on: (G, max_distance)."""
        return self.position if self.bucket_of is None else self.position[:, self.bucket_of]

    def by_distance(self, distance: Tensor) -> Tensor:
        """(...) int64 distances i - j -> (G, ...). Future keys (negative) must be masked."""
        table = self.distances
        return table[:, distance.clamp(0, table.shape[1] - 1)]

    def forward(self, distance: Tensor, bucket: Tensor) -> Tensor:
        """Distances and buckets of one shape (...) -> bias (G, ...)."""
        return self.by_distance(distance) + self.time[:, bucket]
