"""Owns one contender of the training benchmark: it steps over parts of an epoch when told to.

Never compares. `python -m service.benchmark.training_worker mfalcon|plain DATA THREADS SEED`; a
JSON list of step numbers per line in, one JSON object per line out.
"""

import json
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from model.allocator import keep_freed_memory
from model.data.sources import open_data
from model.history import History
from model.network.attention import divisors
from model.network.batch import Batch, to_batch
from model.network.hstu import HSTU, Placing
from model.presets import native
from model.training.batches import epoch_steps, training_windows
from model.training.losses import Objective, count

LENGTH, BATCH_USERS = 200, 128
SHAPE = {"d_model": 50, "num_layers": 8, "num_heads": 2, "qk_dim": 25, "v_dim": 25}


def plain_loss(network: HSTU, windows: list[History]) -> Tensor:
    """Cross-entropy as most public code has it: every window padded to the full length, the
    attention weights of all pairs kept for the backward pass, logits of all rows at once."""
    config, batch = network.config, _padded(windows)
    items, own = batch.items, batch.timestamps[:, :-1]
    bucket = network.time_buckets(batch.timestamps[:, 1:, None], own[:, None, :])
    index = torch.arange(LENGTH)
    distance = index[:, None] - index
    mask = (distance >= 0).float()
    divisor = divisors(config, index + 1)[:, None]
    zero = torch.zeros((), dtype=torch.int64)
    x = network.dropout(network.event_rows(items[:, :-1], items[:, :-1], Placing(zero, zero, zero)))
    for layer in network.blocks:
        p = layer.project(x)
        q, k, v = p.q.transpose(1, 2), p.k.transpose(1, 2), p.v.transpose(1, 2)
        bias = layer.bias(distance.expand_as(bucket), bucket).transpose(0, 1)
        weights = F.silu(q @ k.transpose(-1, -2) + bias) * mask
        attended = (weights @ v).transpose(1, 2).flatten(2) / divisor
        x = layer.output(p.base, p.u, attended)
    head = network.retrieval
    queries = head.prepare(x) / config.temperature
    logits = queries @ head.prepare_items(network.items.weight).T
    targets = items[:, 1:].masked_fill(~batch.valid[:, 1:], -100)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _padded(windows: list[History]) -> Batch:
    batch = to_batch(windows)
    more = (0, LENGTH + 1 - batch.items.shape[1])
    items, actions, timestamps = (
        F.pad(column, more) for column in (batch.items, batch.actions, batch.timestamps)
    )
    return Batch(items, actions, timestamps, batch.lengths)


def main(contender: str, data: str, threads: int, seed: int) -> None:
    if threads:
        torch.set_num_threads(threads)
    if contender == "mfalcon":
        keep_freed_memory()
    seen = open_data(data).without_last(2)
    torch.manual_seed(seed)
    config = native(len(seen.items), tasks=(), value={}, max_length=LENGTH, **SHAPE)
    network = HSTU(config)
    objective = Objective(network)

    def own_loss(windows: list[History]) -> Tensor:
        batch = to_batch(windows)
        loss: Tensor = objective(batch, count(config, [batch]), False)
        return loss

    def loss_of(windows: list[History]) -> Tensor:
        return own_loss(windows) if contender == "mfalcon" else plain_loss(network, windows)

    windows = training_windows(seen.histories(), LENGTH, last_only=True)
    steps = [
        [windows[place] for place in step] for step in epoch_steps(windows, BATCH_USERS, seed=seed)
    ]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0)
    network.eval()
    with torch.no_grad():
        loss = float(loss_of(steps[0]))
    network.train()
    loss_of(steps[0]).backward()  # the warm-up
    events = sum(len(window) - 1 for window in windows)
    _say({"steps": len(steps), "events": events, "loss": loss})
    for line in sys.stdin:
        began = time.perf_counter()
        for number in json.loads(line):
            optimizer.zero_grad(set_to_none=True)
            loss_of(steps[number]).backward()
            optimizer.step()
        _say({"seconds": time.perf_counter() - began})


def _say(answer: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
