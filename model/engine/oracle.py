"""Owns the oracle: the plain full forward that defines a right answer.

Never caches rows, batches or skips: one user, one candidate, every row of every layer, in its
network's precision. `mfalcon verify` and the shadow give it one of float64, so that what differs is
the rounding of the serving path alone. It shares parameters and `HSTULayer.project`/`output` with
the serving path and nothing else, so that an error there cannot hide here.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import HSTUConfig, TimeBucketing
from model.history import History
from model.network.hstu import HSTU, Placing
from model.network.layer import HSTULayer


@dataclass(frozen=True, slots=True)
class OracleScore:
    retrieval: Tensor  # () logit of the candidate
    actions: Tensor  # (actions,) logits; none for a model without action tasks


class Oracle:
    """Right answers for one history at one time; each `score` is a full forward."""

    def __init__(self, network: HSTU, history: History, request_time: int) -> None:
        """`request_time` in Unix seconds. The network is in evaluation mode, on the CPU."""
        self._network, self._history = network, history
        own = [*history.timestamps.tolist(), request_time]
        query = own if network.config.time_query == "self" else [*own[1:], request_time]
        self._distance, self._bucket = _relations(network.config, query, own)
        divisors = [_divisor(network.config, row + 1) for row in range(len(own))]
        self._divisor = torch.tensor(divisors).unsqueeze(1)
        n = len(history)
        self._placing = Placing(
            torch.arange(n), torch.full((n,), n), request_time - history.timestamps
        )

    @torch.inference_mode()
    def score(self, candidate: int) -> OracleScore:
        """The whole model over [event rows of the history, the candidate's row]."""
        network, n = self._network, len(self._history)
        x = network.event_rows(self._history.items, self._history.actions, self._placing)
        if network.config.tasks:
            row = network.candidate_rows(torch.tensor([candidate]), torch.tensor([n]))
            x = torch.cat((x, row))
        for layer in network.blocks:
            x = self._layer(layer, x)
        x = network.final_norm(x)
        actions = network.action_logits(x[-1] if len(x) else x.new_empty(x.shape[1]))
        return OracleScore(self._retrieval(x, candidate), actions)

    def _retrieval(self, x: Tensor, candidate: int) -> Tensor:
        network, n = self._network, len(self._history)
        if n == 0:
            return network.retrieval.prior[candidate]
        row, item_row = x[n - 1], network.items.weight[candidate]
        similarity = row @ item_row
        if network.config.similarity == "cosine":
            eps = network.config.similarity_eps
            similarity = similarity / (row.norm().clamp(min=eps) * item_row.norm().clamp(min=eps))
        if network.retrieval.bias is not None:
            similarity = similarity + network.retrieval.bias[candidate]
        if network.retrieval.repeat is not None and candidate in self._history.items.tolist():
            similarity = similarity + network.retrieval.repeat
        return similarity / network.config.temperature

    def _layer(self, layer: HSTULayer, x: Tensor) -> Tensor:
        p, rows = layer.project(x), len(x)
        visible = torch.ones(rows, rows).tril()
        distance, bucket = self._distance[:rows, :rows], self._bucket[:rows, :rows]
        heads = []
        for head in range(p.q.shape[1]):
            g = min(head, layer.bias.distances.shape[0] - 1)
            bias = layer.bias.distances[g][distance] + layer.bias.time[g][bucket]
            scores = p.q[:, head] @ p.k[:, head].T + bias
            if self._network.config.attention == "softmax":
                weights = torch.exp(scores) * visible
                weights = weights / weights.sum(1, keepdim=True)
            else:
                weights = scores * torch.sigmoid(scores) * visible
            heads.append(weights @ p.v[:, head] / self._divisor[:rows])
        return layer.output(p.base, p.u, torch.cat(heads, dim=1))


def _relations(config: HSTUConfig, query: list[int], own: list[int]) -> tuple[Tensor, Tensor]:
    """Distances and time buckets (rows, rows) by the definition, in Python numbers."""
    rows = range(len(own))
    last = max(config.max_distance - 1, 0)
    distance = [[min(max(i - j, 0), last) for j in rows] for i in rows]
    bucket = [[_bucket(abs(q - o), config.time_bias) for o in own] for q in query]
    return torch.tensor(distance), torch.tensor(bucket)


def _bucket(span_s: int, bucketing: TimeBucketing | None) -> int:
    if bucketing is None or span_s == 0:
        return 0
    units = span_s / bucketing.unit_s
    value = math.sqrt(units) if bucketing.fn == "sqrt" else max(0.0, math.log(units))
    return min(int(value / bucketing.width), bucketing.num_buckets)


def _divisor(config: HSTUConfig, num_keys: int) -> float:
    return float(num_keys) if config.divisor == "count" else config.divisor
