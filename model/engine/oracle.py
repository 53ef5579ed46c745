"""Owns the oracle: the plain full forward that defines a right answer.

Never caches rows, batches or skips: one user, one candidate, float32, every row of every layer. It
shares parameters and `HSTULayer.project`/`output` with the serving path and nothing else, so that
an error there cannot hide here.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.history import History
from model.network.hstu import HSTU
from model.network.layer import HSTULayer


@dataclass(frozen=True, slots=True)
class OracleScore:
    retrieval: Tensor  # () logit of the candidate
    actions: Tensor  # (actions,) logits


class Oracle:
    """Right answers for one history at one time; each `score` is a full forward."""

    def __init__(self, network: HSTU, history: History, request_time: int) -> None:
        """`request_time` in Unix seconds. The network is in evaluation mode, on the CPU."""
        self._network, self._history = network, history
        own = [*history.timestamps.tolist(), request_time]
        query = [*own[1:], request_time]
        self._distance, self._bucket = _relations(network, query, own)
        divisors = [_divisor(network, row + 1) for row in range(len(own))]
        self._divisor = torch.tensor(divisors).unsqueeze(1)

    @torch.inference_mode()
    def score(self, candidate: int) -> OracleScore:
        """The whole model over [event rows of the history, the candidate's row]."""
        network, n = self._network, len(self._history)
        item = torch.tensor([candidate])
        x = torch.cat(
            (
                network.event_rows(self._history.items, self._history.actions),
                network.candidate_rows(item),
            )
        )
        for layer in network.blocks:
            x = self._layer(layer, x)
        actions = network.action_head(x[n])
        if n == 0:
            return OracleScore(network.retrieval.prior[candidate], actions)
        row, item_row = x[n - 1], network.items.weight[candidate]
        cosine = row @ item_row / (row.norm() * item_row.norm())
        return OracleScore(cosine / network.config.temperature, actions)

    def _layer(self, layer: HSTULayer, x: Tensor) -> Tensor:
        p = layer.project(x)
        visible = torch.ones(len(x), len(x)).tril()
        heads = []
        for head in range(p.q.shape[1]):
            g = min(head, layer.bias.position.shape[0] - 1)
            bias = layer.bias.position[g][self._distance] + layer.bias.time[g][self._bucket]
            scores = p.q[:, head] @ p.k[:, head].T + bias
            weights = scores * torch.sigmoid(scores) * visible
            heads.append(weights @ p.v[:, head] / self._divisor)
        return layer.output(p.base, p.u, torch.cat(heads, dim=1))


def _relations(network: HSTU, query: list[int], own: list[int]) -> tuple[Tensor, Tensor]:
    """Distances and time buckets (rows, rows) by the definition, in Python integers."""
    config = network.config
    rows = range(len(own))
    last = config.max_distance - 1
    distance = [[min(max(i - j, 0), last) for j in rows] for i in rows]
    bucket = [
        [_bucket(abs(q - o), config.time_bucket_width, config.num_time_buckets) for o in own]
        for q in query
    ]
    return torch.tensor(distance), torch.tensor(bucket)


def _bucket(span_s: int, width: float, last: int) -> int:
    return min(int(math.log(max(1, span_s)) / width), last)


def _divisor(network: HSTU, num_keys: int) -> float:
    divisor = network.config.divisor
    return float(num_keys) if divisor == "count" else divisor
