"""Owns the kernels around attention: rows of K and V into pages, and spans of time to buckets.

Legend: r a row of the tile, j a key, d a number of a head.
"""

import triton
import triton.language as tl

from model.kernels.triton.tile import (
    BUCKETS_AT,
    COUNT,
    NOW,
    NUM_EVENTS,
    NUM_FIELDS,
    PAGE_ROWS,
    PAGES_AT,
    POSITION,
    ROW,
    TIMES_AT,
)


@triton.jit(do_not_specialize_on_alignment=["tiles", "pages"])
def write_rows(
    k,  # (R, H, K), rows `k_stride` apart
    v,  # (R, H, V), rows `v_stride` apart
    tiles,
    pages,
    layer_at,  # where the layer begins in a page, in numbers
    k_stride,
    v_stride,
    qk_dim: tl.constexpr,
    v_dim: tl.constexpr,
    key_numbers: tl.constexpr,
    per_word: tl.constexpr,
    number: tl.constexpr,
    block_rows: tl.constexpr,
    block_k: tl.constexpr,
    block_v: tl.constexpr,
):
    """K and V of event rows, to the columns and rows of their pages."""
    record, head = tiles + tl.program_id(0) * NUM_FIELDS, tl.program_id(1)
    r, d, c = tl.arange(0, block_rows), tl.arange(0, block_k), tl.arange(0, block_v)
    is_row = r < tl.load(record + COUNT)
    row, position = tl.load(record + ROW) + r, tl.load(record + POSITION) + r
    address = tl.load(
        pages + tl.load(record + PAGES_AT) + position // PAGE_ROWS, mask=is_row, other=0
    )
    page = address.to(tl.pointer_type(number))
    page += layer_at + head * (key_numbers + PAGE_ROWS * v_dim)
    in_page = position % PAGE_ROWS
    in_keys = (d < qk_dim)[:, None] & is_row[None, :]
    keys = tl.load(k + row[None, :] * k_stride + head * qk_dim + d[:, None], mask=in_keys)
    number_at = d // per_word * (PAGE_ROWS * per_word) + d % per_word
    at = page[None, :] + number_at[:, None] + (in_page * per_word)[None, :]
    tl.store(at, keys.to(number), mask=in_keys)
    in_values = is_row[:, None] & (c < v_dim)[None, :]
    values = tl.load(v + row[:, None] * v_stride + head * v_dim + c[None, :], mask=in_values)
    row_at = in_page // per_word * (v_dim * per_word) + in_page % per_word
    at = (page + key_numbers)[:, None] + row_at[:, None] + c[None, :] * per_word
    tl.store(at, values.to(number), mask=in_values)


@triton.jit(do_not_specialize_on_alignment=["tiles", "times"])
def find_buckets(
    buckets,  # uint8
    tiles,
    times,  # int64 Unix seconds
    boundaries,  # (num_boundaries,) int64
    num_boundaries,
    query_is_next: tl.constexpr,
    block_rows: tl.constexpr,
    block_keys: tl.constexpr,
):
    """The bucket of each row's query time and each key's, `block_keys` keys in a program.

    A row's pages are filled to their ends, with buckets that there are.
    """
    record, start = tiles + tl.program_id(0) * NUM_FIELDS, tl.program_id(1) * block_keys
    count, first = tl.load(record + COUNT), tl.load(record + POSITION)
    num_events, times_at = tl.load(record + NUM_EVENTS), tl.load(record + TIMES_AT)
    r, j = tl.arange(0, block_rows), start + tl.arange(0, block_keys)
    width = tl.cdiv(first + count, PAGE_ROWS) * PAGE_ROWS
    if start < width:
        looks_from = first + r + (1 if query_is_next else 0)
        query = tl.load(times + times_at + looks_from, mask=looks_from < num_events, other=0)
        query = tl.where(looks_from < num_events, query, tl.load(record + NOW))
        own = tl.load(times + times_at + j, mask=j < num_events, other=0)
        span = tl.abs(query[:, None] - own[None, :])
        bucket = tl.zeros((block_rows, block_keys), tl.int32)
        for power in tl.static_range(8):
            probe = bucket + (128 >> power)
            is_there = probe <= num_boundaries
            bound = tl.load(boundaries + probe - 1, mask=is_there, other=0)
            bucket = tl.where(is_there & (span >= bound), probe, bucket)
        tl.store(
            buckets + tl.load(record + BUCKETS_AT) + r[:, None] * width + j[None, :],
            bucket.to(tl.uint8),
            mask=(r < count)[:, None] & (j < width)[None, :],
        )
