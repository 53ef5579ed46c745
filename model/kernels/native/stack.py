"""Owns the compiled stack's calls: users in, addresses handed over, outputs out.

What happens per row happens in `stack.cpp`. It runs SiLU attention without a feed-forward part on a
CPU, in float32, and in bfloat16 where the processor multiplies that; plain tensor operations run
everything else.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

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
        self._lib = lib
        self._network = PackedNetwork(network, dtype)
        self._num_logits = self._network.record.num_logits
        self._query_width = self._network.record.query_width

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

    def encode(self, users: Sequence[EventRows]) -> Tensor:
        call = _Call(users)
        queries = torch.empty(len(users), self._query_width)
        for record, user, query in zip(call.records, users, queries, strict=True):
            record.items, record.actions = map(_address, (user.history.items, user.history.actions))
            record.start, record.stop, record.is_live = user.start, user.stop, user.is_live
            record.out = _address(query)
        self._run(self._lib.mfalcon_encode, call)
        return queries

    def score(self, users: Sequence[CandidateRows]) -> list[Tensor]:
        call = _Call(users)
        logits = [torch.empty(user.count, self._num_logits) for user in users]
        for record, user, out in zip(call.records, users, logits, strict=True):
            record.items, record.out = _address(user.items), _address(out)
        self._run(self._lib.mfalcon_score, call)
        return logits

    def _run(self, function: Callable[..., bool], call: _Call) -> None:
        network, records = ctypes.byref(self._network.record), call.records
        if not function(network, records, len(records), torch.get_num_threads()):
            raise IndexError("an item or an action is none of the network's")


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
            times = user.history.timestamps
            record.times, record.num_events = _address(times), times.shape[0]
            record.now = user.request_time
            record.first, record.num_rows = first, user.count
            first += user.count


def _address(numbers: Tensor) -> int:
    assert numbers.is_contiguous()
    return numbers.data_ptr()
