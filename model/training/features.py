"""Owns what items share: a row for each of their features, learned, and added to the items' own.

Only training knows of it. A checkpoint holds the sums, and is served as any other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from model.errors import InputError
from model.items import Items
from model.network.hstu import HSTU

SEPARATOR = "|"


class FeatureError(InputError):
    """The items have no such features; the message names those that they have."""


class Shared(nn.Module):
    """Adds to each item's row the mean of its features' rows, which are zero at first.

    While training, a share `dropout` of the items have the latter alone, others at each call.
    """

    starts: Tensor
    places: Tensor

    def __init__(self, features: Sequence[Sequence[str]], width: int, dropout: float = 0.0) -> None:
        """`features`: by item; one without any keeps its own row."""
        super().__init__()
        self._dropout = dropout
        self.names = sorted({name for each in features for name in each})
        place = {name: index for index, name in enumerate(self.names)}
        ends = torch.tensor([len(each) for each in features]).cumsum(0)
        self.register_buffer("starts", F.pad(ends[:-1], (1, 0)), persistent=False)
        every = torch.tensor([place[name] for each in features for name in each])
        self.register_buffer("places", every, persistent=False)
        self.rows = nn.Parameter(torch.zeros(len(self.names), width))

    def forward(self, own: Tensor) -> Tensor:
        """(items, D) -> (items, D)."""
        if self.training and self._dropout:
            own = own * (torch.rand(len(own), 1, device=own.device) >= self._dropout)
        return own + F.embedding_bag(self.places, self.rows, self.starts, mode="mean")


def share(network: HSTU, items: Items, column: str, dropout: float = 0.0) -> None:
    """From now on the network's item rows are sums, and the features' rows parameters of it.

    Args:
        column: of what is known about the items, such as genres; features apart by "|"
        dropout: see `Shared`

    Raises:
        FeatureError: there is no such column, or nothing in it.
    """
    features = [
        sorted(set(filter(None, row.get(column, "").split(SEPARATOR)))) for row in items.rows
    ]
    if column == "item_id" or not any(features):
        known = sorted({name for row in items.rows for name in row} - {"item_id"})
        there = f"there is {', '.join(known)}" if known else "there is nothing but their ids"
        raise FeatureError(f"no {column} of the items is known; {there}")
    shared = Shared(features, network.config.d_model, dropout)
    parametrize.register_parametrization(network.items, "weight", shared)


def summed(network: HSTU) -> HSTU:
    """A network whose item rows are parameters, and the same; itself, if they are already."""
    if not parametrize.is_parametrized(network.items):
        return network
    state = {k: t for k, t in network.state_dict().items() if not k.startswith("items.")}
    rows = network.items.weight.detach()
    alone = HSTU(network.config).to(rows.device)
    alone.load_state_dict(state | {"items.weight": rows})
    return alone
