"""Owns M-FALCON: candidates of one or more requests scored in one pass on cached history.

Never lets a candidate see another. Two identities make it cheap: all candidates of a request
share position and time, so their bias is one vector over the history; and a candidate's own column
is the only part of its attention outside the history, so the rest is a plain matrix product.
Source: arXiv 2402.17152, section 3.4 and appendix H.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import HSTUConfig
from model.engine.encoder import LiveUser
from model.network.attention import attend
from model.network.hstu import HSTU


@dataclass(frozen=True, slots=True)
class Microbatch:
    """Candidates of one user that are scored together with others' in one pass."""

    user: LiveUser
    candidates: Tensor  # (M,) int64 item indices


def microbatches(user: LiveUser, candidates: Tensor, size: int) -> Iterator[Microbatch]:
    """A request's candidates cut into microbatches of at most `size`, in order."""
    for chunk in candidates.split(size):
        yield Microbatch(user, chunk)


class CandidateScorer:
    """Scores microbatches through a network in evaluation mode."""

    def __init__(self, network: HSTU) -> None:
        self._network = network

    @torch.inference_mode()
    def score(self, batches: Sequence[Microbatch]) -> list[Tensor]:
        """Action logits (M, actions) of each microbatch, in one pass over all of them."""
        network = self._network
        sizes = [len(batch.candidates) for batch in batches]
        if not network.config.tasks:  # retrieval alone: there is no candidate row to read
            return [batch.user.keys.new_empty(len(batch.candidates), 0) for batch in batches]
        num_events = [b.candidates.new_full(b.candidates.shape, b.user.num_events) for b in batches]
        x = network.candidate_rows(
            torch.cat([batch.candidates for batch in batches]), torch.cat(num_events)
        )
        for index, layer in enumerate(network.blocks):
            p = layer.project(x)
            parts = [
                _attend_history(network.config, index, batch.user, q, k, v)
                for batch, q, k, v in zip(
                    batches, p.q.split(sizes), p.k.split(sizes), p.v.split(sizes), strict=True
                )
            ]
            x = layer.output(p.base, p.u, torch.cat(parts) if len(parts) > 1 else parts[0])
        return list(network.action_logits(network.final_norm(x)).split(sizes))


def _attend_history(
    config: HSTUConfig, index: int, user: LiveUser, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """q, k (M, H, K), v (M, H, V) of the candidates -> (M, H * V), divided."""
    bias = user.bias[index]  # (G, N + 1)
    history, own = bias[:, None, :-1], bias[:, -1]
    keys, values = user.keys[index], user.values[index]
    attended = attend(config, q.transpose(0, 1), keys, values, history)
    weight = F.silu((q * k).sum(-1) + own)  # (M, H)
    out = torch.addcmul(attended.transpose(0, 1), weight.unsqueeze(-1), v)
    return (out / user.divisor).flatten(1)
