"""Owns the memory a measurement took: the peak of this process since a point in time."""

import contextlib
import resource
import sys
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


def forget_peaks() -> None:
    """Count from here on. Where the system has no such switch, peaks are since the start."""
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_rss_bytes() -> int:
    """Of this process's main memory."""
    with contextlib.suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_device_bytes(device: torch.device) -> int | None:
    """Of tensors on the GPU; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
