"""Owns SiLU attention over padded batches with its backward pass: what training runs.

Never keeps the (B, H, L, L) weights: they are recomputed in the backward pass, in tiles of a few
users and a few rows that fit the CPU's caches, and the future half is skipped. Right padding needs
no mask: a causal row never sees the padding behind it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

_TILE_FLOATS = 1 << 19
"""Attention weights held at once, in floats: about what the last-level cache of a core holds."""

_TILE_ROWS = 40
"""Query rows per tile; fewer skip more of the future, more make larger matrix products."""

_GPU_SCALE = 256
"""How much larger tiles are on a GPU, where starting an operation costs more than its memory."""


class PaddedAttention(Function):
    """Groups of query rows over one causal set of keys.

    Group r of R at row i looks from distance i - j + r: group 0 are the event rows, group 1 the
    candidate rows of the next position, which see the same keys from the same time.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, position: Tensor, time: Tensor, bucket: Tensor
    ) -> Tensor:
        """q (B, H, R, L, K), k (B, H, L, K), v (B, H, L, V), position (G, P), time (G, T),
        bucket (B, L, L) int32 -> (B, H, R, L, V), before the divisor."""
        ctx.save_for_backward(q, k, v, position, time, bucket)
        bias = position[:, _distances(q, position)]  # (G, R, L, L)
        out = q.new_empty(*q.shape[:4], v.shape[-1])
        for tile in _tiles(q):
            weights = F.silu(_scores(tile, q, k, bias, time, bucket), inplace=True)
            out[tile.queries] = tile.mask_(weights) @ v[tile.keys].unsqueeze(2)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, position, time, bucket = ctx.saved_tensors
        (grad,) = grads
        distance = _distances(q, position)
        bias = position[:, distance]
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        dbias, dtime = torch.zeros_like(bias), torch.zeros_like(time)
        for tile in _tiles(q):
            keys, values = k[tile.keys].unsqueeze(2), v[tile.keys].unsqueeze(2)
            scores = _scores(tile, q, k, bias, time, bucket)
            gate = tile.mask_(scores.sigmoid())
            weights = scores.mul_(gate)  # SiLU(s), masked
            dv[tile.keys] += (weights.transpose(-1, -2) @ grad[tile.queries]).sum(2)
            # d SiLU(s) / ds = gate + SiLU(s) - SiLU(s) * gate, all of them masked
            slope = torch.addcmul(gate, weights, gate, value=-1).add_(weights)
            dscores = (grad[tile.queries] @ values.transpose(-1, -2)).mul_(slope)
            dq[tile.queries] = dscores @ keys
            dk[tile.keys] += (dscores.transpose(-1, -2) @ q[tile.queries]).sum(2)
            dbias[tile.bias] += _over_heads(dscores.sum(0), len(position))
            dtime += _by_bucket(dscores.sum(2), bucket[tile.bucket], time)
        dposition = torch.zeros_like(position)
        dposition.index_add_(1, distance.flatten(), dbias.flatten(1))
        return dq, dk, dv, dposition, dtime, None


def padded_attention(
    q: Tensor, k: Tensor, v: Tensor, position: Tensor, time: Tensor, bucket: Tensor
) -> Tensor:
    """See `PaddedAttention.forward`. In float32, under autocast as well."""
    device = q.device.type
    if torch.is_autocast_enabled(device):
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast(device, enabled=False):
        out: Tensor = PaddedAttention.apply(q, k, v, position, time, bucket)  # type: ignore[no-untyped-call]
    return out


_Index = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class _Tile:
    """Some users' rows `first` to `stop`, which see keys 0 to `stop`; indices into the tensors."""

    users: slice
    first: int
    stop: int

    @property
    def queries(self) -> _Index:
        """Into (B, H, R, L, ...)."""
        return self.users, slice(None), slice(None), slice(self.first, self.stop)

    @property
    def keys(self) -> _Index:
        """Into (B, H, L, ...)."""
        return self.users, slice(None), slice(self.stop)

    @property
    def bias(self) -> _Index:
        """Into (G, R, L, L)."""
        return slice(None), slice(None), slice(self.first, self.stop), slice(self.stop)

    @property
    def bucket(self) -> _Index:
        """Into (B, L, L)."""
        return self.users, slice(self.first, self.stop), slice(self.stop)

    def mask_(self, weights: Tensor) -> Tensor:
        """Zero what lies in a row's future, in place: (..., rows, keys)."""
        return weights.tril_(self.first)


def _tiles(q: Tensor) -> Iterator[_Tile]:
    batch, heads, groups, length, _ = q.shape
    scale = 1 if q.device.type == "cpu" else _GPU_SCALE
    height = _TILE_ROWS * scale
    per_user = heads * groups * min(length, height) * length
    users = max(1, _TILE_FLOATS * scale // max(1, per_user))
    for start in range(0, batch, users):
        for first in range(0, length, height):
            yield _Tile(slice(start, start + users), first, min(first + height, length))


def _distances(q: Tensor, position: Tensor) -> Tensor:
    row = torch.arange(q.shape[3], device=q.device)
    group = torch.arange(q.shape[2], device=q.device)
    distance = row[:, None] - row + group[:, None, None]  # (R, L, L)
    return distance.clamp(0, position.shape[1] - 1)


def _scores(
    tile: _Tile, q: Tensor, k: Tensor, bias: Tensor, time: Tensor, bucket: Tensor
) -> Tensor:
    scores = q[tile.queries] @ k[tile.keys].unsqueeze(2).transpose(-1, -2)  # (b, H, R, rows, keys)
    scores += bias[tile.bias]
    buckets = bucket[tile.bucket]
    by_time = time.index_select(1, buckets.flatten()).view(-1, *buckets.shape)
    scores += by_time.transpose(0, 1).unsqueeze(2)
    return scores


def _over_heads(grad: Tensor, bias_heads: int) -> Tensor:
    """(H, ...) -> (G, ...)."""
    return grad if bias_heads == len(grad) else grad.sum(0, keepdim=True)


def _by_bucket(grad: Tensor, bucket: Tensor, time: Tensor) -> Tensor:
    """(b, H, rows, keys) -> (G, T). A weighted histogram; a scatter into 129 places is slow."""
    grad = _over_heads(grad.transpose(0, 1), len(time))
    flat, size = bucket.flatten(), time.shape[1]
    return torch.stack([torch.bincount(flat, head.flatten(), minlength=size) for head in grad])
