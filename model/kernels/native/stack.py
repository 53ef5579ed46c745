"""Owns the compiled stack's calls: rows and users in, addresses handed over, outputs out.

What happens per row happens in `stack.cpp`. It runs SiLU attention without a feed-forward part on a
CPU, in float32, and in bfloat16 where the processor multiplies that; plain tensor operations run
everything else.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from ctypes import c_void_p

import torch
from torch import Tensor

from model.config import HSTUConfig
from model.kernels.native.packing import PackedNetwork
from model.kernels.native.records import UserRecord, load, machine
from model.kernels.stack import CandidateRows, EventRows
from model.network.hstu import HSTU

_MOST_BUCKETS = 255
"""A time bucket is a byte there."""


class NativeStack:
    def __init__(
        self, network: HSTU, dtype: torch.dtype, instructions: str, lib: ctypes.CDLL
    ) -> None:
        self.name = f"native ({instructions})"
        self._lib, self._width = lib, network.config.d_model
        self._network = PackedNetwork(network, dtype)

    @classmethod
    def of(cls, network: HSTU, dtype: torch.dtype) -> NativeStack | None:
        """None where it is not built, or does not run such a network."""
        instructions = machine()
        lib = load(instructions)
        on_cpu = network.items.weight.device.type == "cpu"
        if lib is None or not on_cpu or not _runs(network.config):
            return None
        if dtype == torch.bfloat16 and not lib.mfalcon_has_bfloat16():
            return None
        return cls(network, dtype, instructions, lib)

    def capturing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def encode(self, x: Tensor, users: Sequence[EventRows]) -> Tensor:
        records = _records(users)
        for record, user in zip(records, users, strict=True):
            record.start, record.stop, record.is_live = user.start, user.stop, user.is_live
        last = torch.empty(len(users), self._width)
        self._lib.mfalcon_encode(
            *self._arguments(records, x), c_void_p(last.data_ptr()), torch.get_num_threads()
        )
        return last

    def score(self, x: Tensor, users: Sequence[CandidateRows]) -> Tensor:
        self._lib.mfalcon_score(*self._arguments(_records(users), x), torch.get_num_threads())
        return x

    def _arguments(self, records: ctypes.Array[UserRecord], x: Tensor) -> tuple[object, ...]:
        assert x.is_contiguous()
        network = ctypes.byref(self._network.record)
        return network, records, len(records), c_void_p(x.data_ptr())


def _runs(config: HSTUConfig) -> bool:
    num_buckets = config.time_bias.num_buckets if config.time_bias else 0
    return config.attention == "silu" and not config.ffn_multiple and num_buckets <= _MOST_BUCKETS


def _records(users: Sequence[EventRows | CandidateRows]) -> ctypes.Array[UserRecord]:
    """What both calls tell of a user; valid while `users` live."""
    records, first = (UserRecord * len(users))(), 0
    for record, user in zip(records, users, strict=True):
        pages = user.rows.pages
        record.pages = (c_void_p * len(pages))(*[page.address for page in pages])
        record.times, record.now = user.timestamps.data_ptr(), user.request_time
        record.num_events = len(user.timestamps)
        record.first, record.num_rows = first, user.count
        first += user.count
    return records
