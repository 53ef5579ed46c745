"""Owns what the kernels are told about a tile, a few rows of one user: a record of 64-bit numbers.

Never decides what goes into a tile; the plan of a call does.
"""

import triton.language as tl

from model.kernels import pages

PAGE_ROWS = tl.constexpr(pages.PAGE_ROWS)

FIELDS = (
    "row",  # its first row, among the rows of the call
    "count",  # its rows
    "position",  # of its first row among the user's; a candidate stands behind all events
    "pages_at",  # where the user's page addresses begin
    "times_at",  # where the user's timestamps begin
    "num_events",  # timestamps the user has
    "now",  # Unix seconds: the time of the request
    "buckets_at",  # where its time buckets begin: a row of them, in whole pages, per row
)

NUM_FIELDS = tl.constexpr(len(FIELDS))
ROW, COUNT, POSITION, PAGES_AT, TIMES_AT, NUM_EVENTS, NOW, BUCKETS_AT = map(
    tl.constexpr, range(len(FIELDS))
)
