"""Owns running a grid: each run in a folder of its own, as many at a time as there are processes.

Never runs anything twice: a run that is done has nothing left to do, one that was killed goes on
after its last whole epoch. Only training is called, which asks for the validation event alone.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from model.ablation.grid import GridError, Run
from model.ablation.outcome import Outcome, outcome_of
from model.allocator import keep_freed_memory
from model.data.interactions import Interactions
from model.errors import InputError
from model.training.processes import joined
from model.training.run_folder import RunError
from model.training.trainer import Trainer

_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that ended early, and why; the others go on."""

    variant: str
    seed: int
    why: str


def check(runs: Sequence[Run], data: Interactions) -> None:
    """Before the first run begins, that each can be made.

    Raises:
        GridError: a variant's configuration is impossible.
    """
    for run in runs:
        try:
            run.recipe.config(data)
        except InputError as error:
            raise GridError(f"{run.variant}: {error}") from error


def run_all(
    runs: Sequence[Run], data: Interactions, out: Path, *, jobs: int, device: str
) -> Iterator[Outcome | Failure]:
    """Each run's outcome when it is done, in no order; `jobs` of them share the threads.

    Raises:
        RunError: the process of a run was killed.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        began = {pool.submit(_run, run, data, out, device, threads): run for run in runs}
        left = set(began)
        try:
            while left:
                # A wait without an end is not everywhere one that Ctrl-C can stop.
                done, left = wait(left, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
                yield from (_result(each, began[each]) for each in done)
        except BaseException:
            # Who stops the command would else wait for the runs that are next in the queue.
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _result(done: Future[Outcome], run: Run) -> Outcome | Failure:
    try:
        return done.result()
    except BrokenProcessPool as error:
        raise RunError(
            "the process of a run was killed, perhaps for memory; run the same command again to go "
            "on, with fewer --jobs"
        ) from error
    except InputError as error:
        return Failure(run.variant, run.seed, str(error))


def _run(run: Run, data: Interactions, out: Path, device: str, threads: int) -> Outcome:
    keep_freed_memory()
    torch.set_num_threads(threads)
    with joined(device) as processes:
        recipe = run.recipe
        trainer = Trainer(recipe.config(data), recipe.options, data, run.folder(out), processes)
        deque(trainer.train(_end_with_the_command), maxlen=0)
    return outcome_of(run, trainer)


def _end_with_the_command(_done: int, _total: int) -> None:
    """A command that was killed must not leave runs behind that the next one begins again."""
    command = multiprocessing.parent_process()
    if command is not None and not command.is_alive():
        os._exit(1)
