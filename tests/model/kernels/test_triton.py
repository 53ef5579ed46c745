"""The Triton stack gives the oracle's answer, in Triton's interpreter: what test_stacks.py asks of
every stack, on few and small networks, for the interpreter takes a tenth of a second per tile.

Norms, gates and projections are torch's, the same as in the tensor stack; what differs is how rows
are cut into tiles, which keys they see, and where biases and divisors come from.
"""

from typing import Any

import pytest
import torch

from model.config import TimeBucketing, Window
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.history import Event, History
from model.kernels.pages import PAGE_ROWS
from tests.model.builders import (
    NUM_ITEMS,
    SOME_ITEMS,
    START,
    assert_close,
    assert_exact,
    encode,
    later,
    make_network,
    random_history,
    right_answers,
    served,
    tiny_config,
)

pytest.importorskip("triton", reason="Triton has no build for this platform")

from model.kernels.triton import launch
from model.kernels.triton.layers import own_layers
from model.kernels.triton.stack import TritonStack

# What a GPU does without a word, NumPy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")

FORMULATIONS: dict[str, dict[str, Any]] = {
    "shared, by count": {},
    "per head, constant": {"bias_heads": "per_head", "divisor": 7.0},
    "log distances": {"bias_heads": "per_head", "max_distance": 20, "position_buckets": 6},
    "scaled, own biases": {"gate": "sigmoid", "qk_scale": "rsqrt", "projection_bias": True},
    "no biases": {"time_bias": None, "max_distance": 0},
    "own time": {"time_query": "self", "tasks": ()},
    "odd widths": {"d_model": 34, "num_heads": 1, "qk_dim": 17, "v_dim": 33},
    "many buckets": {"time_bias": TimeBucketing(fn="sqrt", width=1.0, num_buckets=255)},
    "feed-forward": {"ffn_multiple": 2, "output": "concat_ua", "residual": "input"},
}

BFLOAT16_BOUND = 8 * 2**-8
"""Of the largest logit, as `mfalcon verify` allows."""


def engine_of(dtype: torch.dtype = torch.float32, **overrides: Any) -> Engine:
    fields: dict[str, Any] = {"num_layers": 2, "window": Window(capacity=256, keep=200)} | overrides
    engine = Engine(make_network(tiny_config(**fields)), dtype=dtype, stack=TritonStack)
    # What a page held before must not matter: numbers that spread wherever they are read.
    pages = [engine.pool.take() for _ in range(40)]
    for page in pages:
        page.tensor.fill_(torch.nan)
    return engine


@pytest.mark.parametrize("name", FORMULATIONS)
def test_every_formulation_is_exact_over_pages(name: str) -> None:
    engine = engine_of(**FORMULATIONS[name])
    history = random_history(PAGE_ROWS + 5)
    now = later(history)
    state = encode(engine, history.cut(0, PAGE_ROWS - 3)).state
    assert_exact(engine, encode(engine, history, now, state), now)


@pytest.mark.parametrize("widths", [{}, {"qk_dim": 7, "v_dim": 9}])
def test_bfloat16_is_near(widths: dict[str, int]) -> None:
    engine = engine_of(torch.bfloat16, **widths)
    history = random_history(PAGE_ROWS + 5)
    now = later(history)
    state = encode(engine, history.cut(0, PAGE_ROWS - 3)).state
    found = served(engine, encode(engine, history, now, state), SOME_ITEMS)
    right = right_answers(engine.network, history, now, SOME_ITEMS)
    for got, wanted in zip(found, right, strict=True):
        assert_close([got], [wanted], BFLOAT16_BOUND * float(wanted.abs().max()))


@pytest.mark.parametrize("name", ["shared, by count", "scaled, own biases", "feed-forward"])
def test_weights_that_are_cast_once_give_what_casting_in_each_pass_gives(name: str) -> None:
    network = make_network(tiny_config(num_layers=1, **FORMULATIONS[name]))
    network.requires_grad_(False)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    given, (own,) = network.blocks[0], own_layers(network, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        first, second = given.project(x), own.project(x)
        assert_close(own.keys_and_values(x), given.keys_and_values(x), 0)
        attended = first.v.flatten(1).float()
        out = given.output(first.base, first.u, attended)
        assert_close([own.output(second.base, second.u, attended)], [out], 0)
    assert own.uvqk.dtype == torch.bfloat16
    assert given.uvqk.dtype == torch.float32


def test_rows_over_many_tiles_are_exact() -> None:
    """Prefill of two tiles and a row, three blocks of keys, and more candidates than a tile has."""
    engine = engine_of()
    history = random_history(2 * 64 + 1)
    now = later(history)
    encoded = encode(engine, history, now)
    assert_exact(engine, encoded, now, [index % NUM_ITEMS for index in range(70)])


def test_keys_that_are_split_over_programs_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a user all of whose keys lie in the first part, and of rows around a part's end."""
    monkeypatch.setattr(launch, "PART_KEYS", PAGE_ROWS)
    engine = engine_of(bias_heads="per_head")
    histories = [random_history(length, seed=length) for length in (3 * PAGE_ROWS + 2, 5)]
    states = [encode(engine, history.cut(0, -4)).state for history in histories]
    encoded = engine.encode(
        [EncodeJob(s, h, later(h)) for s, h in zip(states, histories, strict=True)]
    )
    for history, each in zip(histories, encoded, strict=True):
        assert_exact(engine, each, later(history))


@pytest.mark.parametrize("length", [1, PAGE_ROWS, PAGE_ROWS + 1])
def test_a_history_that_ends_anywhere_in_a_page_is_exact(length: int) -> None:
    engine = engine_of()
    history = random_history(length, seed=length)
    now = later(history)
    assert_exact(engine, encode(engine, history, now), now)


def test_users_share_a_pass_without_touching() -> None:
    engine = engine_of(bias_heads="per_head")
    lengths, held, counts = (5, 0, 40, 33), (4, 0, 0, 32), (3, 2, 19, 0)
    jobs, candidates = [], []
    for seed, (length, known, count) in enumerate(zip(lengths, held, counts, strict=True)):
        history = random_history(length, seed=seed)
        state = encode(engine, history.cut(0, known)).state
        jobs.append(EncodeJob(state, history, later(history, seed)))
        candidates.append(torch.arange(count) % NUM_ITEMS)
    lives = [encoded.live for encoded in engine.encode(jobs)]
    scores = engine.score(
        [Microbatch(live, c) for live, c in zip(lives, candidates, strict=True) if live]
    )
    for index, job in enumerate(jobs):
        (alone,) = engine.encode([job])
        assert alone.live is not None
        (expected,) = engine.score([Microbatch(alone.live, candidates[index])])
        assert_close([scores[index]], [expected], 2e-6)
        now, wanted = job.request_time, candidates[index].tolist()
        if now is not None and wanted:
            (_, right) = right_answers(engine.network, job.history, now, wanted)
            assert_close([scores[index]], [right])


def test_a_user_who_is_not_live_has_the_state_of_one_who_is() -> None:
    engine = engine_of()
    history, other = random_history(20), random_history(34, seed=1)
    jobs = [
        EncodeJob(engine.empty_state(), history),
        EncodeJob(engine.empty_state(), other, later(other)),
    ]
    together = engine.encode(jobs)
    assert together[0].live is None
    alone = encode(engine, history, later(history))
    assert_close(together[0].state.rows.read(), alone.state.rows.read(), 2e-6)


@pytest.mark.parametrize("now", [0, START + 10**9])
def test_a_request_at_any_time_is_exact(now: int) -> None:
    engine = engine_of()
    history = random_history(10)
    assert_exact(engine, encode(engine, history, now), now)


@pytest.mark.parametrize("bias", [-200.0, 200.0])
def test_scores_far_from_zero_are_exact(bias: float) -> None:
    """Where exp overflows, SiLU is 0 or its argument; with huge biases of both signs."""
    network = make_network(tiny_config(num_layers=2), bias=bias)
    for block in network.blocks:
        block.attention_norm.weight.data.mul_(1e-3)  # type: ignore[operator]
    engine = Engine(network, stack=TritonStack)
    history = random_history(40)
    assert_exact(engine, encode(engine, history, later(history)), later(history))


def test_times_out_of_order_are_exact() -> None:
    engine = engine_of()
    times = [START + gap for gap in (900, 5, 10**8, 0, 0, 70_000, -(10**7), 3)]
    history = History.of(Event(index, 1, time) for index, time in enumerate(times))
    assert_exact(engine, encode(engine, history, START), START)


def test_networks_that_it_does_not_run_are_left_to_others() -> None:
    assert TritonStack.of(make_network(tiny_config()), torch.float32) is None  # no GPU


def test_no_candidates_are_no_scores() -> None:
    engine = engine_of()
    history = random_history(3)
    encoded = encode(engine, history, later(history))
    assert encoded.live is not None
    (scores,) = engine.score([Microbatch(encoded.live, torch.empty(0, dtype=torch.int64))])
    assert scores.shape == (0, len(engine.config.actions))


def test_an_empty_history_is_exact() -> None:
    engine = engine_of()
    encoded = encode(engine, random_history(0), START)
    assert served(engine, encoded, range(3))[1].isfinite().all()
    assert_exact(engine, encoded, START)
