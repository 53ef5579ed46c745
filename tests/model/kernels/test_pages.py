"""Pages hold what was put there, are shared while nobody writes, and come back to their pool."""

import pytest
import torch

from model.kernels.pages import PAGE_ROWS, PagedRows, PagePool
from tests.model.builders import assert_close, tiny_config

LAYERS, HEADS, QK, V = 3, 2, 7, 12
COUNTS = (0, 1, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 3 * PAGE_ROWS + 5)


def rows_of(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (LAYERS, HEADS, count)
    keys, values = (torch.randn(*shape, width, generator=generator) for width in (QK, V))
    return keys.bfloat16().float(), values.bfloat16().float()  # of both dtypes


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def pool(request: pytest.FixtureRequest) -> PagePool:
    return PagePool(tiny_config(qk_dim=QK), dtype=request.param)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("first", [0, 1, PAGE_ROWS, PAGE_ROWS + 3])
def test_what_is_held_is_read_back(pool: PagePool, count: int, first: int) -> None:
    keys, values = rows_of(count)
    held = pool.hold(keys, values)
    assert held.num_rows == count
    first = min(first, count)
    expected = keys[:, :, first:], values[:, :, first:]
    assert_close(held.read(first), expected, tolerance=0)
    tokens = [torch.from_numpy(part).permute(1, 2, 0, 3) for part in held.tokens(first)]
    assert_close(tokens, expected, tolerance=0)


@pytest.mark.parametrize("keep", COUNTS)
def test_a_successor_has_the_kept_rows_and_leaves_the_old_ones_alone(
    pool: PagePool, keep: int
) -> None:
    old = rows_of(COUNTS[-1])
    held = pool.hold(*old)
    longer = held.with_room(keep, keep + 2 * PAGE_ROWS)
    new = rows_of(2 * PAGE_ROWS, seed=1)
    longer.write(keep, *new)
    joined = [torch.cat((a[:, :, :keep], b), 2) for a, b in zip(old, new, strict=True)]
    assert_close(longer.read(), joined, tolerance=0)
    assert_close(held.read(), old, tolerance=0)


def test_full_pages_are_shared_and_others_are_not(pool: PagePool) -> None:
    held = pool.hold(*rows_of(2 * PAGE_ROWS + 4))
    longer = held.with_room(2 * PAGE_ROWS + 4, 2 * PAGE_ROWS + 5)
    assert longer.pages[:2] == held.pages[:2]
    assert longer.pages[2] is not held.pages[2]
    assert held.cut(PAGE_ROWS).pages == held.pages[:1]


def test_pages_come_back_when_nobody_holds_them(pool: PagePool) -> None:
    held = pool.hold(*rows_of(PAGE_ROWS + 1))
    longer = held.with_room(PAGE_ROWS, 3 * PAGE_ROWS)
    addresses = {page.address for page in (*held.pages, *longer.pages)}
    assert len(addresses) == 4
    del held
    free = {pool.take().address for _ in range(1)}
    assert len(free & addresses) == 1  # the tail of what was dropped; its full page is in `longer`
    del longer
    taken = [pool.take() for _ in range(4)]
    assert {page.address for page in taken} == addresses


def test_a_pool_that_is_used_up_grows(pool: PagePool) -> None:
    pages = [pool.take() for _ in range(2 * 8 * 2**20 // pool.page_bytes + 2)]
    assert len({page.address for page in pages}) == len(pages)


def test_pages_start_where_vectors_are_aligned(pool: PagePool) -> None:
    assert all(pool.take().address % 64 == 0 for _ in range(5))


def test_sizes_are_counted_by_page(pool: PagePool) -> None:
    numbers = QK + V if pool.dtype == torch.float32 else QK + 1 + V
    assert pool.page_bytes == pool.dtype.itemsize * LAYERS * HEADS * PAGE_ROWS * numbers
    assert pool.empty().num_bytes == 0
    assert pool.hold(*rows_of(PAGE_ROWS + 1)).num_bytes == 2 * pool.page_bytes


def test_rows_of_no_events_have_the_shape_of_rows(pool: PagePool) -> None:
    nothing: PagedRows = pool.empty()
    keys, values = nothing.read()
    assert keys.shape == (LAYERS, HEADS, 0, QK)
    assert values.shape == (LAYERS, HEADS, 0, V)
