"""Owns how tensors of the CPU come to a device: at once, or beside what it computes.

Never touches pages itself. What arrives is put where it belongs by whoever computes next, on the
stream that computes: so pages are written and read in one order, and none is overwritten by a
copy while a kernel still reads what a user before had there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Put = Callable[[Sequence[Tensor]], None]
"""Gets the tensors on the device, and works on the current stream."""


class Arrivals(Protocol):
    def add(self, parts: Sequence[Tensor], put: Put) -> None:
        """Begin to bring `parts`, for a GPU in pinned memory, to the device; without a wait."""
        ...

    def settle(self) -> None:
        """Put all that was added, as far as what the current stream does next can tell."""
        ...


class AtOnce:
    """Where parts are already: on the CPU."""

    def add(self, parts: Sequence[Tensor], put: Put) -> None:
        put(parts)

    def settle(self) -> None:
        pass


class Beside:
    """Copied by whoever adds, put by whoever settles: in any thread, in the order of adding."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._coming: deque[Callable[[], None]] = deque()
        self._settling = threading.Lock()

    def add(self, parts: Sequence[Tensor], put: Put) -> None:
        arrived = self._copy(parts)
        self._coming.append(lambda: put(arrived()))

    def settle(self) -> None:
        with self._settling:
            while self._coming:
                # Not forgotten before it is done: what failed is tried again, never passed over.
                self._coming[0]()
                self._coming.popleft()


class Copy(Protocol):
    def __call__(self, parts: Sequence[Tensor]) -> Callable[[], Sequence[Tensor]]:
        """Begin to copy to a device. The result makes the current stream wait, not the caller, and
        gives the copies."""
        ...


class SideStream:
    """Copies to a GPU on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def __call__(self, parts: Sequence[Tensor]) -> Callable[[], Sequence[Tensor]]:
        with torch.cuda.stream(self._stream):
            # Torch keeps pinned memory until a copy that does not block has been made from it.
            copies = [part.to(self._device, non_blocking=True) for part in parts]
            made = self._stream.record_event()

        def arrived() -> Sequence[Tensor]:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(made)
            for each in copies:
                each.record_stream(current)  # it is the side stream's memory, and used here
            return copies

        return arrived


def arrivals_at(device: torch.device) -> Arrivals:
    return Beside(SideStream(device)) if device.type == "cuda" else AtOnce()
