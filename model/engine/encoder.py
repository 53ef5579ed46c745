"""Owns encoding event rows: prefill, extend and the pending row, for many users in one pass.

Never scores candidates, and never writes where a state lies: what it encodes goes into new pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.cacheability import classify
from model.engine.state import UserState
from model.history import Event, History
from model.kernels.pages import PagedRows
from model.kernels.stack import EventRows, LayerStack
from model.network.hstu import HSTU


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """Bring `state` to `history`; with `request_time`, run the pending row as of then too."""

    state: UserState
    history: History
    request_time: int | None = None  # Unix seconds


@dataclass(frozen=True, slots=True)
class LiveUser:
    """What the candidates of one request see: every event row, the pending one as of now."""

    rows: PagedRows
    history: History
    request_time: int  # Unix seconds
    query: Tensor | None  # (D,) prepared retrieval query; None for an empty history

    @property
    def num_events(self) -> int:
        return self.rows.num_rows


@dataclass(frozen=True, slots=True)
class Encoded:
    state: UserState
    live: LiveUser | None
    num_reused: int
    num_encoded: int  # rows run, the pending one included


class Encoder:
    """Runs event rows through a network in evaluation mode."""

    def __init__(self, network: HSTU, stack: LayerStack) -> None:
        self._stack, self._window = stack, network.config.window
        self._keeps_rows = classify(network.config).across_requests

    def imagine(self, user: LiveUser, item: int, action: int) -> EncodeJob:
        """The user with one more event, which happens at the time of the request: no earlier than
        the newest so far.

        A branch: it shares the user's rows, the pending one too, which is final for an event at
        just the time as of which it was run. Its own row is all that there is to encode.
        """
        history = user.history.followed_by([Event(item, action, user.request_time)])
        rows = user.rows if self._keeps_rows else user.rows.cut(0)
        return EncodeJob(UserState(history, rows), history.within(self._window), user.request_time)

    @torch.inference_mode()
    def encode(self, jobs: Sequence[EncodeJob]) -> list[Encoded]:
        """One jagged pass over the rows that each job's state lacks."""
        plans = [self._plan(job) for job in jobs]
        running = [rows for rows in plans if rows.count]
        queries: dict[int, Tensor] = {}
        if running:
            queries = dict(zip(map(id, running), self._stack.encode(running), strict=True))
        return [
            self._finished(job, rows, queries.get(id(rows)))
            for job, rows in zip(jobs, plans, strict=True)
        ]

    def _plan(self, job: EncodeJob) -> EventRows:
        history, held = job.history, job.state.rows
        start, live = job.state.reusable_rows(history), job.request_time is not None
        stop = len(history) if live else self._num_final(history)
        return EventRows(
            rows=held.with_room(start, stop) if start < stop else held.cut(start),
            history=history,
            request_time=job.request_time or 0,
            start=start,
            is_live=live,
        )

    def _finished(self, job: EncodeJob, rows: EventRows, query: Tensor | None) -> Encoded:
        state = UserState(job.history, rows.rows.cut(self._num_final(job.history)))
        live = None
        if job.request_time is not None:
            live = LiveUser(rows.rows, job.history, job.request_time, query)
        return Encoded(state, live, rows.start, rows.count)

    def _num_final(self, history: History) -> int:
        return max(len(history) - 1, 0) if self._keeps_rows else 0
