"""Owns the options that benchmarks share, and what they do to this process."""

from typing import Annotated

import typer

Rounds = Annotated[int, typer.Option(min=1, help="interleaved rounds; medians are kept")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes every core")]


def prepare(threads: int) -> None:
    """The allocator and the threads, as the service sets them."""
    import torch

    from model.allocator import keep_freed_memory

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
