"""The oracle is the published formula: checked against scalar loops in float64."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from model.config import HSTUConfig
from model.engine.oracle import Oracle
from model.history import EMPTY, History
from model.network.hstu import HSTU
from tests.model.builders import (
    FORMULATIONS,
    SOME_ITEMS,
    START,
    assert_close,
    later,
    make_network,
    random_history,
    right_answers,
    tiny_config,
)


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


@dataclass(frozen=True)
class Formula:
    """Equations 1 to 3 of arXiv 2402.17152 over raw parameters, one row and one key at a time."""

    config: HSTUConfig
    weights: dict[str, Tensor]

    def answer(self, history: History, now: int, candidate: int) -> tuple[Tensor, Tensor]:
        items = self.weights["items.weight"]
        rows = [self.fused(event.item, event.action) for event in history.events]
        x = torch.stack([*rows, self.fused(candidate, 0)])
        times = [*(event.timestamp for event in history.events), now]
        for index in range(self.config.num_layers):
            x = self.layer(f"layers.{index}.", x, times)
        w = self.weights
        hidden = silu(w["action_head.hidden.weight"] @ x[-1] + w["action_head.hidden.bias"])
        logits = w["action_head.logits.weight"] @ hidden + w["action_head.logits.bias"]
        if not len(history):
            return w["retrieval.prior"][candidate], logits
        row, item = x[-2], items[candidate]
        cosine = (row * item).sum() / (row.pow(2).sum() * item.pow(2).sum()).sqrt()
        if self.config.item_bias:
            cosine = cosine + self.weights["retrieval.bias"][candidate]
        if self.config.repeat_bias and any(event.item == candidate for event in history.events):
            cosine = cosine + self.weights["retrieval.repeat"]
        return cosine / self.config.temperature, logits

    def fused(self, item: int, action: int) -> Tensor:
        w = self.weights
        scale = math.sqrt(self.config.d_model) if self.config.item_scale == "sqrt_d" else 1.0
        row, done = scale * w["items.weight"][item], w["actions.weight"][action]
        pair = torch.cat((row, done))
        if self.config.fusion == "gate":
            gate = 1 / (1 + (-w["fusion.gate.weight"] @ pair - w["fusion.gate.bias"]).exp())
            return gate * row + (1 - gate) * done
        if self.config.fusion == "mlp":
            hidden = silu(w["fusion.hidden.weight"] @ pair + w["fusion.hidden.bias"])
            return w["fusion.out.weight"] @ hidden + w["fusion.out.bias"]
        return row + done

    def layer(self, prefix: str, x: Tensor, times: list[int]) -> Tensor:
        config = self.config
        w = {k.removeprefix(prefix): t for k, t in self.weights.items() if k.startswith(prefix)}
        normed = self._norm(x, w, "in_norm")
        times_in = config.time_bias
        assert times_in is not None
        heads, qk, v_dim = config.num_heads, config.qk_dim, config.v_dim
        u, v, q, k = silu(normed @ w["uvqk"]).split([heads * n for n in (v_dim, v_dim, qk, qk)], 1)
        attended = torch.zeros(len(x), heads * v_dim, dtype=torch.float64)
        for i in range(len(x)):
            query_time = times[min(i + 1, len(x) - 1)]
            divisor = i + 1 if config.divisor == "count" else config.divisor
            for j in range(i + 1):
                place = min(i - j, config.max_distance - 1)
                if config.position_buckets:
                    place = self._bucket(place)
                span_s = max(1, abs(query_time - times[j]))
                bucket = min(int(math.log(span_s) / times_in.width), times_in.num_buckets)
                for head in range(heads):
                    g = head if config.bias_heads == "per_head" else 0
                    score = q[i, head * qk : (head + 1) * qk] @ k[j, head * qk : (head + 1) * qk]
                    score = score + w["bias.position"][g, place] + w["bias.time"][g, bucket]
                    out = slice(head * v_dim, (head + 1) * v_dim)
                    attended[i, out] += silu(score) * v[j, out] / divisor
        a = self._norm(attended, w, "attention_norm")
        gated = torch.cat((u, a, u * a), 1) if config.output == "concat_ua" else u * a
        base = normed if config.residual == "normed" else x
        out_rows: Tensor = gated @ w["out.weight"].T + w["out.bias"]
        return base + out_rows

    def _norm(self, x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
        one, zero = x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])
        weight, bias = w.get(f"{name}.weight", one), w.get(f"{name}.bias", zero)
        return norm(x, weight, bias, self.config.norm_eps)

    def _bucket(self, distance: int) -> int:
        """As T5 has it."""
        config = self.config
        exact = config.position_buckets // 2
        if distance < exact:
            return distance
        part = math.log(distance / exact) / math.log(config.max_distance / exact)
        far = int(part * (config.position_buckets - exact))
        return min(exact + far, config.position_buckets - 1)


def formula_of(network: HSTU) -> Formula:
    weights = {name: tensor.double() for name, tensor in network.state_dict().items()}
    return Formula(network.config, weights)


@pytest.mark.parametrize("name", list(FORMULATIONS))
def test_the_oracle_is_the_formula(name: str) -> None:
    network = make_network(tiny_config(num_layers=2, **FORMULATIONS[name]))
    formula = formula_of(network)
    for length in (0, 1, 2, 13):
        history = random_history(length, seed=length)
        now = later(history)
        for candidate in SOME_ITEMS:
            score = Oracle(network, history, now).score(candidate)
            expected = formula.answer(history, now, candidate)
            assert_close((score.retrieval.double(), score.actions.double()), expected)


def test_an_empty_history_retrieves_by_the_prior() -> None:
    network = make_network()
    retrieval, _ = right_answers(network, EMPTY, START, SOME_ITEMS)
    assert retrieval.tolist() == network.retrieval.prior[list(SOME_ITEMS)].tolist()
