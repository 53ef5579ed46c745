"""Owns the engine: a network on a device, and everything a request asks of it.

Never does I/O and never blocks on anything but arithmetic; one thread calls it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from model.engine.encoder import Encoded, EncodeJob, Encoder, LiveUser
from model.engine.mfalcon import CandidateScorer, Microbatch
from model.engine.state import UserState
from model.history import EMPTY
from model.kernels.choose import fastest_stack
from model.kernels.pages import PagePool
from model.kernels.stack import LayerStack
from model.network.hstu import HSTU


class Engine:
    """Exact serving of one network; see the oracle for what exact means."""

    def __init__(
        self,
        network: HSTU,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        stack: Callable[[HSTU, torch.dtype], LayerStack] = fastest_stack,
    ) -> None:
        """`dtype`, float32 or bfloat16, is that of K and V, and of what is multiplied with them."""
        self.network = network.to(device).eval().requires_grad_(False)
        self.config = network.config
        self.device = torch.device(device)
        self.pool = PagePool(self.config, self.device, dtype)
        self._stack = stack(network, dtype)
        self._encoder = Encoder(network, self._stack)
        self._scorer = CandidateScorer(network, self._stack)
        with torch.inference_mode():
            self._item_rows = network.retrieval.prepare_items(network.items.weight)  # (items, D)
        formula = self.config.value
        self._action_values = torch.tensor(
            [formula.actions.get(action, 0.0) for action in self.config.actions]
        )

    @property
    def kernels(self) -> str:
        """What runs the layers: "native (avx512)", or "tensor" for plain tensor operations."""
        return self._stack.name

    def capturing(self) -> AbstractContextManager[None]:
        """While warming up: let the stack capture the passes that are run; see `LayerStack`."""
        return self._stack.capturing()

    def empty_state(self) -> UserState:
        return UserState(EMPTY, self.pool.empty())

    def encode(self, jobs: Sequence[EncodeJob]) -> list[Encoded]:
        """Prefill, extend and run pending rows, many users in one pass."""
        self.pool.settle()
        return self._encoder.encode(jobs)

    def imagine(self, user: LiveUser, item: int, action: int) -> EncodeJob:
        """A branch of the user with one more event; see `Encoder.imagine`."""
        return self._encoder.imagine(user, item, action)

    def retrieve(self, user: LiveUser) -> Tensor:
        """Retrieval logits of the whole catalogue, (items,); the prior for an empty history."""
        return self.retrieve_all([user])[0]

    @torch.inference_mode()
    def retrieve_all(self, users: Sequence[LiveUser]) -> list[Tensor]:
        """The same of each user, by one product with the catalogue."""
        head, queries = self.network.retrieval, [u.query for u in users if u.query is not None]
        if not queries:
            return [head.prior for _ in users]
        logits = iter(head(torch.stack(queries), self._item_rows))
        return [
            head.prior if user.query is None else head.add_repeat_(next(logits), user.history.items)
            for user in users
        ]

    def score(self, batches: Sequence[Microbatch]) -> list[Tensor]:
        """Action logits (M, actions) of each microbatch, in one pass.

        Raises:
            IndexError: a candidate is none of the network's items.
        """
        return self._scorer.score(batches)

    def action_probabilities(self, logits: Tensor) -> Tensor:
        return self.network.action_probabilities(logits)

    def values(self, retrieval: Tensor, probabilities: Tensor) -> Tensor:
        """The value formula: retrieval logits (M,), probabilities (M, actions) -> scores (M,).

        All on the CPU, where answers are made.
        """
        beta = self.config.value.retrieval
        return torch.addmv(retrieval, probabilities, self._action_values, beta=beta)
