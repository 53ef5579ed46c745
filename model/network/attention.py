"""Owns attention over one user's keys, as serving runs it.

    out_i = sum over visible j of SiLU(q_i . k_j + bias_ij) v_j / divisor_i

The mask multiplies *after* SiLU, since SiLU(bias) is not zero. Source: arXiv 2402.17152, equation
2. Softmax stands in for SiLU in the older form of torch-rechub. Training has the same formula with
a backward pass in `model.network.padded_attention`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import HSTUConfig


def divisors(config: HSTUConfig, num_keys: Tensor) -> Tensor:
    """What a row that sees `num_keys` (...) keys divides by: float (...).

    Never a property of the batch: a score must not depend on who else is scored.
    """
    if config.divisor == "count":
        return num_keys.float()
    return torch.full(num_keys.shape, config.divisor, device=num_keys.device)


def attend(
    config: HSTUConfig, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Attention before the divisor.

    Args:
        q: (H, M, K)
        k: (H, N, K)
        v: (H, N, V)
        bias: (G, M, N), or (G, 1, N) where all rows share position and time
        mask: (M, N), 1 where row sees key; None if all do

    Returns:
        (H, M, V)
    """
    scores = torch.baddbmm(bias.expand(q.shape[0], -1, -1), q, k.transpose(1, 2))
    return activate_(config, scores, mask) @ v


def activate_(config: HSTUConfig, scores: Tensor, mask: Tensor | None) -> Tensor:
    """Attention weights from scores (..., M, N), in place where possible; masked ones are zero."""
    if config.attention == "softmax":
        if mask is not None:
            scores = scores.masked_fill_(mask == 0, -torch.inf)
        return scores.softmax(-1)
    weights = F.silu(scores, inplace=True)
    return weights if mask is None else weights.mul_(mask)
