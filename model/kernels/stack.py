"""Owns what it means to run rows through the layers: the rows of users, and who may run them.

Never says how rows are embedded and read off; both are the network's.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.history import History
from model.kernels.pages import PagedRows
from model.network.hstu import HSTU, Placing


@dataclass(frozen=True, slots=True)
class EventRows:
    """One user's event rows `start` to `stop`, to be run on the rows before them."""

    rows: PagedRows  # holds rows 0 .. start - 1, and has room for those up to `stop`
    history: History  # the whole of it, on the CPU
    request_time: int  # Unix seconds: when the newest event looks, without a next one
    start: int
    is_live: bool  # the output of the last row is wanted

    @property
    def stop(self) -> int:
        return self.rows.num_rows

    @property
    def count(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class CandidateRows:
    """Some candidates of one user, who see all of its rows and themselves."""

    rows: PagedRows
    history: History  # on the CPU; a row each
    request_time: int  # Unix seconds
    items: Tensor  # (M,) int64, the candidates

    @property
    def count(self) -> int:
        return self.items.shape[0]


def event_inputs(network: HSTU, users: Sequence[EventRows]) -> Tensor:
    """Input rows (R, D), user by user."""
    device = network.items.weight.device
    new = [user.history.cut(user.start, user.stop) for user in users]
    items = torch.cat([events.items for events in new]).to(device)
    actions = torch.cat([events.actions for events in new]).to(device)
    if not network.places_events:
        return network.event_rows(items, actions)
    ages = [u.request_time - events.timestamps for u, events in zip(users, new, strict=True)]
    placing = Placing(
        torch.cat([torch.arange(user.start, user.stop) for user in users]),
        torch.cat([torch.full((user.count,), len(user.history)) for user in users]),
        torch.cat(ages),
    )
    return network.event_rows(items, actions, placing.to(device))


def candidate_inputs(network: HSTU, users: Sequence[CandidateRows]) -> Tensor:
    """Input rows (R, D), user by user."""
    device = network.items.weight.device
    items = torch.cat([user.items for user in users]).to(device)
    num_events = torch.cat([u.items.new_full((u.count,), u.rows.num_rows) for u in users])
    return network.candidate_rows(items, num_events.to(device))


def action_logits(network: HSTU, out: Tensor, users: Sequence[CandidateRows]) -> list[Tensor]:
    """What is read off their outputs (R, D): (M, actions) of each user's candidates."""
    logits = network.action_logits(network.final_norm(out))
    return list(logits.split([user.count for user in users]))


class LayerStack(Protocol):
    """All layers of one network in evaluation mode, over rows of many users packed together.

    A row's result does not depend on the rows it is run with.
    """

    @property
    def name(self) -> str: ...

    def capturing(self) -> AbstractContextManager[None]:
        """Within, passes that are run may be captured, to run as one launch from then on. That
        takes far longer than the pass, and nothing else may use the device meanwhile."""
        ...

    def encode(self, users: Sequence[EventRows]) -> Tensor:
        """The live users' retrieval queries (users, Q), of their last rows; what it returns for a
        user who is not live is undefined. Writes the K and V of every row into its user's pages.

        Raises:
            IndexError: an event's item or action is none of the network's.
        """
        ...

    def score(self, users: Sequence[CandidateRows]) -> list[Tensor]:
        """Action logits (M, actions) of each user's candidates; for a network with tasks.

        Raises:
            IndexError: a candidate is none of the network's items.
        """
        ...
