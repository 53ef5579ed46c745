"""Every stack gives the oracle's answer, whatever lies in unused memory and beside its rows."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.config import TimeBucketing, Window
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.history import Event, History
from model.kernels.pages import PAGE_ROWS
from tests.model.builders import (
    FORMULATIONS,
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
from tests.model.kernels.conftest import MakeStack

MORE: dict[str, dict[str, Any]] = {
    "unprojected": {"output": "unprojected", "v_dim": 8},
    "sigmoid-gate": {"gate": "sigmoid", "qk_scale": "rsqrt", "projection_bias": True},
    "no-norm": {"in_norm": "none", "residual": "input"},
    "no-biases": {"time_bias": None, "max_distance": 0},
    "own-time": {"time_query": "self", "tasks": ()},
    "odd-widths": {"d_model": 34, "num_heads": 1, "qk_dim": 17, "v_dim": 33},
    "many-buckets": {"time_bias": TimeBucketing(fn="sqrt", width=1.0, num_buckets=255)},
}
LENGTHS = (1, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 3 * PAGE_ROWS + 4)


BFLOAT16_BOUND = 8 * 2**-8
"""Of the largest logit among all users, as `mfalcon verify` allows."""


def engine_of(
    make_stack: MakeStack, dtype: torch.dtype = torch.float32, **overrides: Any
) -> Engine:
    window = Window(capacity=256, keep=200)
    network = make_network(tiny_config(window=window, **overrides))
    engine = Engine(network, dtype=dtype, stack=make_stack)
    # What a page held before must not matter: numbers that spread wherever they are read.
    pages = [engine.pool.take() for _ in range(40)]
    for page in pages:
        page.tensor.fill_(torch.nan)
    return engine


@pytest.mark.parametrize("name", [*FORMULATIONS, *MORE])
def test_every_formulation_is_exact_over_many_pages(make_stack: MakeStack, name: str) -> None:
    engine = engine_of(make_stack, **(FORMULATIONS | MORE)[name])
    for length in LENGTHS:
        history = random_history(length, seed=length)
        now = later(history)
        for split in (0, length // 2, length - 1):
            state = encode(engine, history.cut(0, split)).state
            assert_exact(engine, encode(engine, history, now, state), now)


@pytest.mark.parametrize("name", ["shared-count-normed", "per_head-7.0-input", *MORE])
def test_bfloat16_is_near_over_many_pages(make_narrow_stack: MakeStack, name: str) -> None:
    engine = engine_of(make_narrow_stack, torch.bfloat16, **(FORMULATIONS | MORE)[name])
    histories = [random_history(length, seed=length) for length in LENGTHS]
    answers = [right_answers(engine.network, h, later(h), SOME_ITEMS) for h in histories]
    bounds = [
        BFLOAT16_BOUND * max(float(part.abs().max()) if part.numel() else 0 for part in parts)
        for parts in zip(*answers, strict=True)
    ]
    for history, right in zip(histories, answers, strict=True):
        for split in (0, len(history) // 2, len(history) - 1):
            state = encode(engine, history.cut(0, split)).state
            found = served(engine, encode(engine, history, later(history), state), SOME_ITEMS)
            for got, wanted, bound in zip(found, right, bounds, strict=True):
                assert_close([got], [wanted], bound)


def test_a_pass_in_bfloat16_is_the_same_in_any_company(make_narrow_stack: MakeStack) -> None:
    engine = engine_of(make_narrow_stack, torch.bfloat16, qk_dim=7)
    jobs = []
    for seed, length in enumerate((33, 1, 70, 2)):
        history = random_history(length, seed=seed)
        state = encode(engine, history.cut(0, length // 2)).state
        jobs.append(EncodeJob(state, history, later(history)))
    for job, together in zip(jobs, engine.encode(jobs), strict=True):
        (alone,) = engine.encode([job])
        assert_close(together.state.rows.read(), alone.state.rows.read(), 0)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_users_share_a_pass_without_touching(make_stack: MakeStack, data: st.DataObject) -> None:
    """Rows to the bit where the stack is ours: they do not depend on the block they fall into."""
    engine = engine_of(make_stack, bias_heads="per_head")
    lengths = data.draw(st.lists(st.integers(0, 70), min_size=1, max_size=5))
    counts = data.draw(st.lists(st.integers(0, 110), min_size=len(lengths), max_size=len(lengths)))
    jobs, candidates = [], []
    for seed, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        history = random_history(length, seed=seed)
        state = encode(engine, history.cut(0, data.draw(st.integers(0, length)))).state
        jobs.append(EncodeJob(state, history, later(history, seed)))
        candidates.append(torch.arange(count) % NUM_ITEMS)
    together = engine.encode(jobs)
    lives = [encoded.live for encoded in together]
    scores = engine.score(
        [Microbatch(live, c) for live, c in zip(lives, candidates, strict=True) if live]
    )
    for index, job in enumerate(jobs):
        (alone,) = engine.encode([job])
        assert alone.live is not None
        (expected,) = engine.score([Microbatch(alone.live, candidates[index])])
        tolerance = 2e-6 if engine.kernels == "tensor" else 0
        assert_close([scores[index]], [expected], tolerance)
        assert_close(together[index].state.rows.read(), alone.state.rows.read(), tolerance)


@pytest.mark.parametrize("count", [1, 11, 12, 13, 95, 96, 97, 200])
def test_candidates_in_blocks_of_any_size_are_exact(make_stack: MakeStack, count: int) -> None:
    engine = engine_of(make_stack)
    history = random_history(45)
    now = later(history)
    candidates = [index % NUM_ITEMS for index in range(count)]
    _, actions = served(engine, encode(engine, history, now), candidates)
    _, alone = served(engine, encode(engine, history, now), range(NUM_ITEMS), size=1)
    assert_close([actions], [alone[candidates]], 2e-6)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_the_number_of_threads_changes_nothing(make_stack: MakeStack, threads: int) -> None:
    engine = engine_of(make_stack)
    history = random_history(90)
    now, before = later(history), torch.get_num_threads()
    answers = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            encoded = encode(engine, history, now)
            answers.append((*encoded.state.rows.read(), *served(engine, encoded, range(NUM_ITEMS))))
    finally:
        torch.set_num_threads(before)
    assert_close(answers[1], answers[0], 2e-6)


@pytest.mark.parametrize("now", [0, START - 10, START + 10**9])
def test_a_request_at_any_time_is_exact(make_stack: MakeStack, now: int) -> None:
    engine = engine_of(make_stack)
    history = random_history(40)
    assert_exact(engine, encode(engine, history, now), now)


def test_scores_far_from_zero_are_exact(make_stack: MakeStack) -> None:
    """Where exp overflows, SiLU is 0 or its argument; with huge biases of both signs."""
    for bias in (-200.0, 200.0):
        network = make_network(tiny_config(), bias=bias)
        for block in network.blocks:
            block.attention_norm.weight.data.mul_(1e-3)  # type: ignore[operator]
        engine = Engine(network, stack=make_stack)
        history = random_history(40)
        assert_exact(engine, encode(engine, history, later(history)), later(history))


def test_times_out_of_order_are_exact(make_stack: MakeStack) -> None:
    """The engine takes histories as they are; only the service orders them."""
    engine = engine_of(make_stack)
    times = [START + gap for gap in (900, 5, 10**8, 0, 0, 70_000, -(10**7), 3)]
    history = History.of(Event(index, 1, time) for index, time in enumerate(times))
    assert_exact(engine, encode(engine, history, START), START)


@pytest.mark.parametrize("number", [-1, NUM_ITEMS])
def test_what_the_network_does_not_know_is_refused(make_stack: MakeStack, number: int) -> None:
    engine = engine_of(make_stack, bias_heads="per_head")
    history = random_history(5)
    live = encode(engine, history, later(history)).live
    assert live is not None
    with pytest.raises(IndexError):
        engine.score([Microbatch(live, torch.tensor([0, number]))])
    column = torch.full((5,), number)
    replace = dataclasses.replace
    for unknown in (replace(history, items=column), replace(history, actions=column)):
        with pytest.raises(IndexError):
            encode(engine, unknown, later(unknown))
