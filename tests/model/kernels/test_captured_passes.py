"""Captured passes: which are captured, when they are used, and what becomes of one that fails.

A capture is stood in for by one that runs the pass again, on the places it was given: all that a
replay differs in from the launches it was captured from is the GPU's own.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.config import Window
from model.engine.encoder import EncodeJob, LiveUser
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.kernels.pages import PAGE_ROWS
from tests.model.builders import (
    NUM_ITEMS,
    SOME_ITEMS,
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

from triton import knobs

from model.kernels.triton import passes, plan
from model.kernels.triton.capture import Capture, CudaCapture
from model.kernels.triton.stack import TritonStack

# What a GPU does without a word, NumPy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")

WINDOW = Window(capacity=96, keep=64)

NO_GPU = "needs a GPU, and TRITON_INTERPRET=0 in the environment"

BFLOAT16_BOUND = 8 * 2**-8
"""Of the largest logit, as `mfalcon verify` allows."""


@pytest.fixture(autouse=True)
def small_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes its time for tiles of no rows, too."""
    monkeypatch.setattr(plan, "MOST_USERS", 3)
    monkeypatch.setattr(plan, "LEAST_ROWS", 16)


class Again:
    """Captures by keeping what to run."""

    def __init__(self) -> None:
        self.num_captures = self.num_replays = 0

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.num_captures += 1
        result = run()

        def replay() -> None:
            self.num_replays += 1
            result.copy_(run())

        return replay, result


class Unable(Again):
    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        super().__call__(run)
        raise RuntimeError("operation not permitted when stream is capturing")


class Idle(Again):
    """Its replays do nothing."""

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        _, result = super().__call__(run)
        return lambda: None, result


def engine_of(capture: Capture, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Engine:
    engine = Engine(
        make_network(tiny_config(num_layers=2, window=WINDOW)),
        device,
        dtype,
        lambda network, dtype: TritonStack(network, dtype, capture),
    )
    # What a page held before must not matter: numbers that spread wherever they are read.
    for page in [engine.pool.take() for _ in range(40)]:
        page.tensor.fill_(torch.nan)
    return engine


def live_of(engine: Engine, length: int, seed: int = 0) -> LiveUser:
    history = random_history(length, seed=seed)
    live = encode(engine, history, later(history)).live
    assert live is not None
    return live


def scores(engine: Engine, *lives: LiveUser, count: int = 20) -> list[Tensor]:
    items = torch.arange(count) % NUM_ITEMS
    return engine.score([Microbatch(live, items) for live in lives])


@pytest.fixture
def again() -> Again:
    return Again()


@pytest.fixture
def captured(again: Again) -> Engine:
    """An extend of few rows and a pass over some candidates are captured."""
    engine = engine_of(again)
    with engine.capturing():
        scores(engine, live_of(engine, 3), count=60)
    assert again.num_captures == 2
    return engine


@pytest.mark.parametrize("length", [1, PAGE_ROWS, PAGE_ROWS + 7])
def test_what_was_captured_for_one_user_is_exact_for_others(
    captured: Engine, again: Again, length: int
) -> None:
    before = again.num_replays
    history = random_history(length, seed=length)
    now = later(history)
    state = encode(captured, history.cut(0, length - 1)).state if length > 1 else None
    assert_exact(captured, encode(captured, history, now, state), now, list(range(19)))
    assert again.num_replays > before
    assert again.num_captures == 2


def test_users_share_a_captured_pass_without_touching(captured: Engine, again: Again) -> None:
    histories = [random_history(length, seed=length) for length in (5, 40, 2)]
    states = [encode(captured, history.cut(0, -1)).state for history in histories]
    before = again.num_replays
    lives = captured.encode(
        [EncodeJob(s, h, later(h)) for s, h in zip(states, histories, strict=True)]
    )
    found = scores(captured, *[each.live for each in lives if each.live])
    assert again.num_replays == before + 2
    plain = engine_of(again)
    for history, each in zip(histories, found, strict=True):
        live = encode(plain, history, later(history)).live
        assert live is not None
        assert_close([each], scores(plain, live), 2e-6)


def test_a_pool_that_has_grown_is_read_where_it_is(captured: Engine, again: Again) -> None:
    """Addresses of pages are told to each run: nothing that was captured points into the pool."""
    held = [captured.pool.take() for _ in range(2 * 8 * 2**20 // captured.pool.page_bytes)]
    history = random_history(50)
    state = encode(captured, history.cut(0, 49)).state
    assert not {page.address for page in state.rows.pages} & {page.address for page in held}
    before = again.num_replays
    now = later(history)
    assert_exact(captured, encode(captured, history, now, state), now, list(range(19)))
    assert again.num_replays > before


def test_a_network_that_moves_leaves_captured_weights_where_they_are(captured: Engine) -> None:
    history = random_history(9)
    now = later(history)
    before = scores(captured, live_of(captured, 9))
    for parameter in captured.network.layers.parameters():
        parameter.data = parameter.data.clone()
    assert_close(scores(captured, live_of(captured, 9)), before, 0)
    assert_exact(captured, encode(captured, history, now), now)


def test_nothing_is_captured_while_others_may_use_the_device(again: Again) -> None:
    engine = engine_of(again)
    scores(engine, live_of(engine, 3))
    assert again.num_captures == 0
    assert engine.kernels == "triton"
    with engine.capturing():
        scores(engine, live_of(engine, 3))
    assert engine.kernels == "triton, 2 captured passes"
    scores(engine, live_of(engine, 90))  # a prefill of other sizes
    assert again.num_captures == 2


@pytest.mark.parametrize(
    ("capture", "reason"), [(Unable(), "not permitted"), (Idle(), "a replay differs")]
)
def test_sizes_that_can_not_be_captured_go_launch_by_launch(
    capture: Again, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(capture)
    history = random_history(20)
    now = later(history)
    with engine.capturing():
        for _ in range(2):
            assert_exact(engine, encode(engine, history, now), now, SOME_ITEMS)
    assert capture.num_captures == 2  # an encode and a score, each tried once
    assert [reason in record.message for record in caplog.records] == [True, True]
    assert engine.kernels == "triton"


def test_no_more_is_captured_than_the_bound(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "MOST_CAPTURED", 1)
    engine = engine_of(again)
    with engine.capturing():
        live = live_of(engine, 3)
        scores(engine, live)
        scores(engine, live, count=3)  # tiles of fewer rows
    assert again.num_captures == 2
    assert engine.kernels == "triton, 2 captured passes"


def test_calls_beyond_a_room_go_launch_by_launch(captured: Engine, again: Again) -> None:
    before = again.num_replays
    live = live_of(captured, 3)
    after_encode = again.num_replays
    assert after_encode == before + 1
    with captured.capturing():
        scores(captured, *[live] * 4, count=1)  # users
    scores(captured, live, count=65)  # rows
    assert again.num_replays == after_encode
    assert again.num_captures == 2


@pytest.mark.skipif(not torch.cuda.is_available() or knobs.runtime.interpret, reason=NO_GPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_on_a_gpu_a_graph_gives_what_its_launches_give(dtype: torch.dtype) -> None:
    """And as close an answer to another user in pages that the pool has added since."""
    engine = engine_of(CudaCapture(), "cuda", dtype)
    with engine.capturing():
        scores(engine, live_of(engine, 3))
    assert engine.kernels == "triton, 2 captured passes"
    held = [engine.pool.take() for _ in range(2 * 8 * 2**20 // engine.pool.page_bytes)]
    history = random_history(40)
    now = later(history)
    encoded = encode(engine, history, now, encode(engine, history.cut(0, 39)).state)
    assert not {page.address for page in encoded.state.rows.pages} & {p.address for p in held}
    network = make_network(engine.config)  # the engine's own is on the GPU
    for found, right in zip(
        served(engine, encoded, SOME_ITEMS),
        right_answers(network, history, now, SOME_ITEMS),
        strict=True,
    ):
        bound = 1e-5 if dtype == torch.float32 else BFLOAT16_BOUND * float(right.abs().max())
        assert_close([found.cpu()], [right], bound)
