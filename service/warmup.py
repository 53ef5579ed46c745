"""Owns running the engine over typical shapes before the service says it is ready.

Never stores anything. First calls allocate and choose kernels; a client should not pay for that.
"""

import torch

from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import microbatches
from model.history import Event, History


def warm_up(engine: Engine, *, microbatch: int) -> None:
    """Prefill, extend and score at window lengths from one to full. Runs on the engine thread."""
    config = engine.config
    lengths = {1, 2, config.window.capacity // 4, config.window.capacity}
    for length in sorted(lengths):
        events = [Event(i % config.num_items, 0, 60 * i) for i in range(length)]
        history = History.of(events)
        job = EncodeJob(engine.empty_state(), history.cut(0, length - 1), request_time=60 * length)
        (encoded,) = engine.encode([job])
        (encoded,) = engine.encode([EncodeJob(encoded.state, history, request_time=60 * length)])
        assert encoded.live is not None
        engine.retrieve(encoded.live)
        for count in (1, microbatch):
            candidates = torch.arange(count, device=engine.device) % config.num_items
            engine.score(list(microbatches(encoded.live, candidates, microbatch)))
