"""Owns what the comparisons with real packages share: random weights, users, and the bound."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.engine.engine import Engine
from model.engine.oracle import Oracle
from model.history import Event, History
from model.importers.imported import Imported
from model.network.batch import to_batch
from model.network.hstu import HSTU, Rows
from tests.model.builders import START, assert_close, encode

TOLERANCE = 1e-5
NUM_ITEMS = 23
LENGTH = 12
LENGTHS = (1, 2, 5, LENGTH - 1, LENGTH)

_GAPS_S = (0, 0, 1, 7, 45, 200, 3_601, 90_001, 2_000_003)


@dataclass(frozen=True, slots=True)
class User:
    history: History
    now: int

    def padded_left(self) -> Tensor:
        """(LENGTH,) int64: item indices from 1, behind zeros."""
        items = torch.zeros(LENGTH, dtype=torch.int64)
        items[LENGTH - len(self.history) :] = self.history.items + 1
        return items


def users(seed: int = 0) -> list[User]:
    """One of each length, with tied times and gaps over many time buckets."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in LENGTHS:
        gaps = torch.tensor(_GAPS_S)[torch.randint(len(_GAPS_S), (length,), generator=generator)]
        items = torch.randint(NUM_ITEMS, (length,), generator=generator)
        times = START + gaps.cumsum(0)
        made.append(
            User(History(items, torch.zeros_like(items), times), int(times[-1]) + 100 * length)
        )
    return made


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Every parameter random and large enough to show, padding's rows included; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * draw if _is_scale(name) else 0.2 * draw)
    module.eval()


def assert_same(imported: Imported, user: User, hidden: Tensor, logits: Tensor) -> None:
    """Hidden state (D,) and logits (items,) of the source, against every way to compute them.

    The engine's hidden state is of unit length where the similarity is the cosine, so the padded
    forward is compared before that as well.
    """
    network = imported.network()
    engine = Engine(network)
    live = encode(engine, user.history, user.now).live
    assert live is not None
    assert live.query is not None
    assert_close(
        [live.query, engine.retrieve(live)], [network.retrieval.prepare(hidden), logits], TOLERANCE
    )
    assert_close([_padded(network, user)], [hidden], TOLERANCE)
    oracle = Oracle(network, user.history, user.now)
    scores = [oracle.score(item).retrieval for item in range(NUM_ITEMS)]
    assert_close([torch.stack(scores)], [logits], TOLERANCE)


@torch.no_grad()
def _padded(network: HSTU, user: User) -> Tensor:
    """The newest event's row (D,); an event at the request's time stands for the next one."""
    history = History.of([*user.history.events, Event(0, 0, user.now)])
    rows: Rows = network(to_batch([history]))
    return rows.events[0, -1]


def _is_scale(name: str) -> bool:
    return "norm" in name and name.endswith("weight")
