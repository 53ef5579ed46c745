"""Owns M-FALCON: candidates of one or more requests scored in one pass on cached history.

Never lets a candidate see another. Two identities make it cheap, in every stack: all candidates of
a request share position and time, so their bias is one vector over the history; and a candidate's
own column is the only part of its attention outside the history, so the rest is a plain matrix
product.
Source: arXiv 2402.17152, section 3.4 and appendix H.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.engine.encoder import LiveUser
from model.kernels.stack import CandidateRows, LayerStack
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


@dataclass(frozen=True, slots=True)
class CandidatePass:
    """Microbatches made ready to go through the layers together."""

    rows: Tensor  # (M, D) of all candidates; (M, 0) where the network reads none
    users: list[CandidateRows]


class CandidateScorer:
    """Scores microbatches through a network in evaluation mode."""

    def __init__(self, network: HSTU, stack: LayerStack) -> None:
        self._network, self._stack = network, stack

    @torch.inference_mode()
    def prepare(self, batches: Sequence[Microbatch]) -> CandidatePass:
        """What is left to do takes the time, and hardly the interpreter."""
        network = self._network
        device = network.items.weight.device
        users = [
            CandidateRows(user.rows, user.history.timestamps, user.request_time, len(candidates))
            for user, candidates in ((b.user, b.candidates) for b in batches)
        ]
        if not network.config.tasks:  # retrieval alone: there is no candidate row to read
            return CandidatePass(torch.empty(sum(u.count for u in users), 0, device=device), users)
        num_events = [b.candidates.new_full(b.candidates.shape, b.user.num_events) for b in batches]
        rows = network.candidate_rows(
            torch.cat([batch.candidates for batch in batches]).to(device),
            torch.cat(num_events).to(device),
        )
        return CandidatePass(rows, users)

    @torch.inference_mode()
    def run(self, ready: CandidatePass) -> list[Tensor]:
        """Action logits (M, actions) of each microbatch; `ready` is used up."""
        network, logits = self._network, ready.rows
        if network.config.tasks:
            out = self._stack.score(ready.rows, ready.users)
            logits = network.action_logits(network.final_norm(out))
        return list(logits.split([user.count for user in ready.users]))
