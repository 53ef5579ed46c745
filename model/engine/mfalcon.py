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


class CandidateScorer:
    """Scores microbatches through a network in evaluation mode."""

    def __init__(self, network: HSTU, stack: LayerStack) -> None:
        self._has_tasks, self._stack = bool(network.config.tasks), stack

    @torch.inference_mode()
    def score(self, batches: Sequence[Microbatch]) -> list[Tensor]:
        """Action logits (M, actions) of each microbatch, in one pass."""
        if not self._has_tasks:  # retrieval alone: there is no candidate row to read
            return [torch.empty(len(batch.candidates), 0) for batch in batches]
        users = [
            CandidateRows(user.rows, user.history, user.request_time, candidates)
            for user, candidates in ((b.user, b.candidates) for b in batches)
        ]
        return self._stack.score(users)
