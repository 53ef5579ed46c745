"""Owns the relative attention bias: position by distance, time by log bucket.

Never knows which rows attend to which; callers pass distances and buckets.
Source: `RelativeBucketedTimeAndPositionBasedBias` of the research code of arXiv 2402.17152.
"""

import math

import torch
from torch import Tensor, nn

from model.config import HSTUConfig


class TimeBuckets(nn.Module):
    """bucket = floor(ln(max(1, |dt|)) / width), clamped to the last one; dt in seconds.

    Compared against integer boundaries instead of computed in floating point: a logarithm may
    differ by one unit in the last place between a vectorised and a scalar loop, and a bucket that
    depends on the layout of a batch would make scores depend on it.
    """

    boundaries: Tensor

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        width, count = config.time_bucket_width, config.num_time_buckets
        last = math.log(2**62) / width
        bounds = [
            math.ceil(math.exp(width * k)) if k < last else 2**62 for k in range(1, count + 1)
        ]
        self.register_buffer("boundaries", torch.tensor(bounds), persistent=False)

    def forward(self, query_times: Tensor, key_times: Tensor) -> Tensor:
        """Buckets of |query - key|: int64 seconds in (broadcast), int32 out."""
        distance = (query_times - key_times).abs()
        return torch.bucketize(distance, self.boundaries, right=True, out_int32=True)


class RelativeBias(nn.Module):
    """One layer's bias tables, shared over heads (G = 1) or one per head (G = H)."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        heads = config.num_bias_heads
        self.position = nn.Parameter(torch.empty(heads, config.max_distance))
        self.time = nn.Parameter(torch.empty(heads, config.num_time_buckets + 1))
        nn.init.normal_(self.position, std=0.02)
        nn.init.normal_(self.time, std=0.02)

    def by_distance(self, distance: Tensor) -> Tensor:
        """(...) int64 distances i - j -> (G, ...). Future keys (negative) must be masked."""
        return self.position[:, distance.clamp(0, self.position.shape[1] - 1)]

    def forward(self, distance: Tensor, bucket: Tensor) -> Tensor:
        """Distances and buckets of one shape (...) -> bias (G, ...)."""
        return self.by_distance(distance) + self.time[:, bucket]
