"""What a pool receives is in its pages when they are read, however late it comes."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from model.engine.engine import Engine
from model.engine.state import UserState
from model.kernels.arrivals import Arrivals, AtOnce, Beside, SideStream
from model.kernels.pages import PAGE_ROWS, PagedRows, PagePool
from tests.model.builders import (
    assert_close,
    assert_exact,
    encode,
    later,
    make_network,
    random_history,
    tiny_config,
)

LAYERS, HEADS, QK, V = 3, 2, 8, 12


class Late:
    """Copies when they are asked for, not before; as the slowest of side streams."""

    def __init__(self, num_failures: int = 0) -> None:
        self.num_failures = num_failures

    def __call__(self, parts: Sequence[Tensor]) -> Callable[[], Sequence[Tensor]]:
        def arrived() -> Sequence[Tensor]:
            if self.num_failures:
                self.num_failures -= 1
                raise RuntimeError("out of memory")
            return [part.clone() for part in parts]

        return arrived


def pool_of(arrivals: Arrivals) -> PagePool:
    """Its pages held numbers that spread wherever they are read."""
    pool = PagePool(tiny_config(), arrivals=arrivals)
    for page in [pool.take() for _ in range(40)]:
        page.tensor.fill_(torch.nan)
    return pool


def rows_of(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    keys, values = (torch.randn(LAYERS, HEADS, count, d, generator=generator) for d in (QK, V))
    return keys, values


def unpack(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    keys, values = parts
    return keys, values


def receive(pool: PagePool, count: int) -> PagedRows:
    return pool.receive(count, rows_of(count), unpack)


@pytest.mark.parametrize("count", [0, 1, PAGE_ROWS, 2 * PAGE_ROWS + 5])
@pytest.mark.parametrize("arrivals", [AtOnce(), Beside(Late())], ids=["at once", "beside"])
def test_what_is_received_is_read(arrivals: Arrivals, count: int) -> None:
    pool = pool_of(arrivals)
    first, second = receive(pool, count), receive(pool, 7)
    assert (first.num_rows, second.num_rows) == (count, 7)
    assert_close(first.read(), rows_of(count), 0)
    assert_close(second.read(), rows_of(7), 0)


def test_the_engine_runs_on_a_state_that_is_on_its_way() -> None:
    engine = Engine(make_network())
    history = random_history(40)
    now = later(history)
    state = encode(engine, history.cut(0, 37)).state
    engine.pool = pool_of(Beside(Late()))
    parts = state.rows.read()
    coming = UserState(state.history, engine.pool.receive(state.num_final, parts, unpack))
    encoded = encode(engine, history, now, coming)
    assert encoded.num_reused == 36
    assert_exact(engine, encoded, now)


def test_pages_are_nobody_elses_until_what_comes_has_been_put() -> None:
    """A user's state may be dropped on its way; its rows must not land in another's pages."""
    pool = pool_of(Beside(Late()))
    addresses = {page.address for page in receive(pool, 2 * PAGE_ROWS).pages}
    others = [pool.take() for _ in range(60)]
    assert not {page.address for page in others} & addresses
    pool.settle()
    assert {pool.take().address for _ in range(2)} <= addresses


def test_what_could_not_be_put_is_not_passed_over() -> None:
    pool = pool_of(Beside(Late(num_failures=1)))
    first, second = receive(pool, 3), receive(pool, 5)
    with pytest.raises(RuntimeError, match="out of memory"):
        second.read()
    assert_close(second.read(), rows_of(5), 0)
    assert_close(first.read(), rows_of(3), 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_copies_are_made_beside_a_busy_device() -> None:
    """Their pages were in use a moment ago, by work that the device has not finished."""
    device = torch.device("cuda")
    pool = PagePool(tiny_config(), device, arrivals=Beside(SideStream(device)))
    busy = torch.randn(4096, 4096, device=device)
    for count in (1, 500, PAGE_ROWS, 3000) * 3:
        for _ in range(20):
            busy = (busy @ busy).tanh()
        parts = [part.pin_memory() for part in rows_of(count)]
        held = pool.receive(count, parts, unpack)
        del parts
        read = held.read()
        assert_close([part.cpu() for part in read], rows_of(count), 0)
