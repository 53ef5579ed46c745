"""Owns the two attention kernels on paged K and V: event rows, and candidates.

    out_i = sum over visible j of SiLU(q_i . k_j + bias_ij) v_j / divisor_i

A program runs one tile of rows of one user and one head, over that user's pages, `block_keys` keys
at a time. Every sum is over the row's own keys in their order, so no row depends on another. Of
event rows a program may run over a part of the keys alone, since there is no softmax to join: the
parts' results add up.

A page is loaded whole, whatever lies behind the last row: an unused key spoils only its own
column, which the mask takes out, and unused values are not loaded. A load whose mask ends
anywhere could not be one of 16 bytes.

Pages hold `number`, and that is what is multiplied; sums are of float32. It is multiplied as
`factor`: the same, but in the interpreter, whose products of bfloat16 are not numbers.

Legend: r a row of the tile, j a key, d a number of a head; `key_numbers` and `per_word` are the
layout of a page (`model.kernels.pages`).
"""

import triton
import triton.language as tl

from model.kernels.triton.tile import (
    BUCKETS_AT,
    COUNT,
    NUM_FIELDS,
    PAGE_ROWS,
    PAGES_AT,
    POSITION,
    ROW,
)


@triton.jit(do_not_specialize_on_alignment=["tiles", "pages"])
def attend_events(
    out,  # (parts, R, H * V) float32
    q,  # (R, H, K), rows `q_stride` apart
    tiles,
    pages,
    buckets,
    position,  # (G, distances) float32
    time,  # (G, time buckets) float32
    layer_at,  # where the layer begins in a page, in numbers
    part_keys,  # keys of a part, in whole blocks
    part_stride,  # between the results of two parts
    q_stride,
    num_distances,
    position_step,  # between the tables of two heads; 0: they share one
    time_step,
    divisor,  # 0: the number of keys a row sees
    qk_dim: tl.constexpr,
    v_dim: tl.constexpr,
    key_numbers: tl.constexpr,
    per_word: tl.constexpr,
    number: tl.constexpr,
    factor: tl.constexpr,
    block_rows: tl.constexpr,
    block_keys: tl.constexpr,
    block_k: tl.constexpr,
    block_v: tl.constexpr,
):
    """Event rows: row `i` of a user sees keys 0 to i, of which this program runs its part."""
    record, head = tiles + tl.program_id(0) * NUM_FIELDS, tl.program_id(1)
    part_at = tl.program_id(2) * part_keys
    count, first = tl.load(record + COUNT).to(tl.int32), tl.load(record + POSITION).to(tl.int32)
    r, d, v = tl.arange(0, block_rows), tl.arange(0, block_k), tl.arange(0, block_v)
    row = tl.load(record + ROW) + r
    queries = _rows(q, row, q_stride, head, r < count, d, qk_dim).to(number).to(factor)
    index = first + r
    num_keys = first + count
    num_pages = tl.cdiv(num_keys, PAGE_ROWS)
    bucket_rows = tl.multiple_of(tl.load(record + BUCKETS_AT), PAGE_ROWS) + r * (
        num_pages * PAGE_ROWS
    )
    head_at = layer_at + head * (key_numbers + PAGE_ROWS * v_dim)
    pages_of = pages + tl.load(record + PAGES_AT)
    sums = tl.zeros((block_rows, block_v), tl.float32)
    for start in range(part_at, tl.minimum(part_at + part_keys, num_keys), block_keys):
        j = start + tl.arange(0, block_keys)
        page = _pages(pages_of, j, num_pages, number) + head_at
        keys = _keys(page, j, d, qk_dim, per_word).to(factor)
        bucket = tl.load(
            buckets + bucket_rows[:, None] + j[None, :],
            mask=(r < count)[:, None] & (j < num_pages * PAGE_ROWS)[None, :],
            other=0,
        ).to(tl.int32)
        distance = tl.minimum(tl.maximum(index[:, None] - j[None, :], 0), num_distances - 1)
        bias = tl.load(position + head * position_step + distance)
        bias += tl.load(time + head * time_step + bucket)
        scores = tl.dot(queries, keys, input_precision="ieee") + bias
        weights = tl.where(j[None, :] <= index[:, None], scores * tl.sigmoid(scores), 0.0)
        values = _values(page + key_numbers, j, v, num_keys, v_dim, per_word).to(factor)
        sums = tl.dot(weights.to(number).to(factor), values, sums, input_precision="ieee")
    divisors = tl.where(divisor == 0, (index + 1).to(tl.float32), divisor)
    out += tl.program_id(2) * part_stride
    tl.store(
        out + row[:, None] * (tl.num_programs(1) * v_dim) + head * v_dim + v[None, :],
        sums / divisors[:, None],
        mask=(r < count)[:, None] & (v < v_dim)[None, :],
    )


@triton.jit(do_not_specialize_on_alignment=["tiles", "pages"])
def attend_candidates(
    out,  # (R, H * V) float32
    q,  # (R, H, K), rows `q_stride` apart
    k,  # (R, H, K), rows `k_stride` apart
    v,  # (R, H, V), rows `v_stride` apart
    tiles,
    pages,
    buckets,
    position,  # (G, distances) float32
    time,  # (G, time buckets) float32
    layer_at,  # where the layer begins in a page, in numbers
    q_stride,
    k_stride,
    v_stride,
    num_distances,
    position_step,  # between the tables of two heads; 0: they share one
    time_step,
    divisor,  # 0: the number of keys a row sees
    qk_dim: tl.constexpr,
    v_dim: tl.constexpr,
    key_numbers: tl.constexpr,
    per_word: tl.constexpr,
    number: tl.constexpr,
    factor: tl.constexpr,
    block_rows: tl.constexpr,
    block_keys: tl.constexpr,
    block_k: tl.constexpr,
    block_v: tl.constexpr,
):
    """Candidates: each sees all keys of its user, with the biases of all others, and itself."""
    record, head = tiles + tl.program_id(0) * NUM_FIELDS, tl.program_id(1)
    count, num_keys = tl.load(record + COUNT).to(tl.int32), tl.load(record + POSITION).to(tl.int32)
    r, d, c = tl.arange(0, block_rows), tl.arange(0, block_k), tl.arange(0, block_v)
    row = tl.load(record + ROW) + r
    queries = _rows(q, row, q_stride, head, r < count, d, qk_dim).to(number).to(factor)
    num_pages = tl.cdiv(num_keys, PAGE_ROWS)
    bucket_row = tl.multiple_of(tl.load(record + BUCKETS_AT), PAGE_ROWS)
    head_at = layer_at + head * (key_numbers + PAGE_ROWS * v_dim)
    pages_of = pages + tl.load(record + PAGES_AT)
    sums = tl.zeros((block_rows, block_v), tl.float32)
    for start in range(0, num_keys, block_keys):
        j = start + tl.arange(0, block_keys)
        page = _pages(pages_of, j, num_pages, number) + head_at
        keys = _keys(page, j, d, qk_dim, per_word).to(factor)
        bucket = tl.load(buckets + bucket_row + j, mask=j < num_keys, other=0).to(tl.int32)
        distance = tl.minimum(tl.maximum(num_keys - j, 0), num_distances - 1)
        bias = tl.load(position + head * position_step + distance)
        bias += tl.load(time + head * time_step + bucket)
        scores = tl.dot(queries, keys, input_precision="ieee") + bias[None, :]
        weights = tl.where((j < num_keys)[None, :], scores * tl.sigmoid(scores), 0.0)
        values = _values(page + key_numbers, j, c, num_keys, v_dim, per_word).to(factor)
        sums = tl.dot(weights.to(number).to(factor), values, sums, input_precision="ieee")
    # Read again: registers are what the loop has least of.
    own_queries = _rows(q, row, q_stride, head, r < count, d, qk_dim)
    own_keys = _rows(k, row, k_stride, head, r < count, d, qk_dim)
    own_values = _rows(v, row, v_stride, head, r < count, c, v_dim)
    own_bias = tl.load(position + head * position_step) + tl.load(time + head * time_step)
    own_scores = tl.sum(own_queries * own_keys, 1) + own_bias
    sums += (own_scores * tl.sigmoid(own_scores))[:, None] * own_values
    divisors = tl.where(divisor == 0, (num_keys + 1).to(tl.float32), divisor)
    tl.store(
        out + row[:, None] * (tl.num_programs(1) * v_dim) + head * v_dim + c[None, :],
        sums / divisors,
        mask=(r < count)[:, None] & (c < v_dim)[None, :],
    )


@triton.jit
def _rows(x, row, stride, head, is_row, d, dim: tl.constexpr):
    """The head's part of rows of the call: (r, d)"""
    at = x + row[:, None] * stride + head * dim + d[None, :]
    return tl.load(at, mask=is_row[:, None] & (d < dim)[None, :], other=0.0).to(tl.float32)


@triton.jit
def _pages(pages, j, num_pages, number: tl.constexpr):
    """Pointers to the page of each key (j); behind the last page, to that one again."""
    address = tl.load(pages + tl.minimum(j // PAGE_ROWS, num_pages - 1))
    # What can not be seen in a number that was loaded; else each access would be of one number.
    same: tl.constexpr = min(j.shape[0], PAGE_ROWS.value)
    return tl.max_constancy(tl.multiple_of(address.to(tl.pointer_type(number)), 64), same)


@triton.jit
def _keys(page, j, d, qk_dim: tl.constexpr, per_word: tl.constexpr):
    """(d, j)"""
    in_page = (j % PAGE_ROWS)[None, :] * per_word
    at = page[None, :] + (d // per_word * (PAGE_ROWS * per_word) + d % per_word)[:, None] + in_page
    return tl.load(at, mask=(d < qk_dim)[:, None], other=0.0)


@triton.jit
def _values(page, j, v, num_keys, v_dim: tl.constexpr, per_word: tl.constexpr):
    """(j, v)"""
    row = j % PAGE_ROWS
    in_page = (row // per_word * (v_dim * per_word) + row % per_word)[:, None]
    at = page[:, None] + in_page + v[None, :] * per_word
    return tl.load(at, mask=(j < num_keys)[:, None] & (v < v_dim)[None, :], other=0.0)
