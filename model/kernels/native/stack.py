"""Owns the compiled stack's calls: rows and users in, addresses handed over, outputs out.

What happens per row happens in `stack.cpp`. It runs SiLU attention without a feed-forward part on a
CPU, in float32, and in bfloat16 where the processor multiplies that; plain tensor operations run
everything else.
"""

from __future__ import annotations

import ctypes
from array import array
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
        self._num_actions = len(network.config.actions)
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
        assert x.is_contiguous()
        call = _Call(users)
        for record, user in zip(call.records, users, strict=True):
            record.start, record.stop, record.is_live = user.start, user.stop, user.is_live
        last = torch.empty(len(users), self._width)
        addresses = map(c_void_p, (x.data_ptr(), last.data_ptr()))
        self._lib.mfalcon_encode(*self._arguments(call), *addresses, torch.get_num_threads())
        return last

    def score(self, users: Sequence[CandidateRows]) -> list[Tensor]:
        call = _Call(users)
        logits = [torch.empty(user.count, self._num_actions) for user in users]
        for record, user, room in zip(call.records, users, logits, strict=True):
            assert user.items.is_contiguous()
            record.items, record.logits = user.items.data_ptr(), room.data_ptr()
        if not self._lib.mfalcon_score(*self._arguments(call), torch.get_num_threads()):
            raise IndexError("a candidate is none of the network's items")
        return logits

    def _arguments(self, call: _Call) -> tuple[object, ...]:
        return ctypes.byref(self._network.record), call.records, len(call.records)


def _runs(config: HSTUConfig) -> bool:
    num_buckets = config.time_bias.num_buckets if config.time_bias else 0
    return config.attention == "silu" and not config.ffn_multiple and num_buckets <= _MOST_BUCKETS


class _Call:
    """What both calls tell of users; valid while they and it live."""

    def __init__(self, users: Sequence[EventRows | CandidateRows]) -> None:
        self.records, first = (UserRecord * len(users))(), 0
        self._addresses = []
        for record, user in zip(self.records, users, strict=True):
            addresses = array("Q", [page.address for page in user.rows.pages])
            self._addresses.append(addresses)
            record.pages, _ = addresses.buffer_info()
            record.times, record.now = user.timestamps.data_ptr(), user.request_time
            record.num_events = user.timestamps.shape[0]
            record.first, record.num_rows = first, user.count
            first += user.count
