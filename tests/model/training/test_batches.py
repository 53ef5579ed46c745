"""Training windows cover every event, batches every window, and only seed and epoch matter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.history import Event, History
from model.network.batch import Batch, to_batch
from model.training.batches import epoch_steps, parts_of, thinned, training_windows
from tests.model.builders import random_history

few = settings(deadline=None, max_examples=50)


def counted_history(length: int, *, user: int = 0) -> History:
    """Each event says whose it is and which."""
    return History.of([Event(user, place, 100 * user + place) for place in range(length)])


def test_a_batch_is_padded_on_the_right_with_the_last_time() -> None:
    batch = to_batch([counted_history(2, user=5), counted_history(4, user=6)])
    assert batch.lengths.tolist() == [2, 4]
    assert batch.items.tolist() == [[5, 5, 0, 0], [6, 6, 6, 6]]
    assert batch.actions.tolist() == [[0, 1, 0, 0], [0, 1, 2, 3]]
    assert batch.timestamps.tolist() == [[500, 501, 501, 501], [600, 601, 602, 603]]


@few
@given(lengths=st.lists(st.integers(0, 40), max_size=5), max_length=st.integers(1, 12))
def test_every_event_is_a_target_once_and_an_input_once(
    lengths: list[int], max_length: int
) -> None:
    histories = [counted_history(length, user=user) for user, length in enumerate(lengths)]
    windows = training_windows(histories, max_length)
    inputs: list[Event] = []
    targets: list[Event] = []
    for window in windows:
        assert 2 <= len(window) <= max_length + 1
        inputs += window.events[:-1]
        targets += window.events[1:]
    assert sorted(inputs) == sorted(e for history in histories for e in history.events[:-1])
    assert sorted(targets) == sorted(e for history in histories for e in history.events[1:])


def test_windows_are_cut_from_the_end() -> None:
    """The newest window is the full one: it is the one that serving resembles."""
    windows = training_windows([counted_history(8)], 3)
    places = [[event.action for event in window.events] for window in windows]
    assert places == [[4, 5, 6, 7], [1, 2, 3, 4], [0, 1]]
    assert [window.anchor for window in windows] == [4, 1, 0]


def test_histories_are_thinned_evenly_in_order_and_never_to_less_than_a_target() -> None:
    histories = [counted_history(length, user=user) for user, length in enumerate([0, 1, 2, 3000])]
    once, again, other = (thinned(histories, 0.3, seed=seed) for seed in (5, 5, 6))
    assert [h.events for h in once] == [h.events for h in again]
    assert once[3].events != other[3].events
    assert [len(history) for history in once[:3]] == [0, 1, 2]
    assert sorted(once[3].events) == once[3].events
    assert 0.65 < len(once[3]) / 3000 < 0.75
    assert set(once[3].events) < set(histories[3].events)


def windows_of(count: int) -> list[History]:
    return [random_history(2 + seed * 7 % 23, seed=seed) for seed in range(count)]


def rows_of(batches: list[Batch]) -> list[list[Event]]:
    return [
        [
            Event(*row)
            for row in zip(
                batch.items[user, :length].tolist(),
                batch.actions[user, :length].tolist(),
                batch.timestamps[user, :length].tolist(),
                strict=True,
            )
        ]
        for batch in batches
        for user, length in enumerate(batch.lengths.tolist())
    ]


def epoch(windows: list[History], *, seed: int = 0, users: int = 3) -> list[Batch]:
    steps = epoch_steps(windows, users, seed=seed)
    return [to_batch([windows[i] for i in step]) for step in steps]


@pytest.mark.parametrize(("count", "users"), [(1, 3), (9, 3), (100, 3), (20, 64), (50, 1)])
def test_an_epoch_holds_every_window_once(count: int, users: int) -> None:
    windows = windows_of(count)
    batches = epoch(windows, users=users)
    assert sorted(rows_of(batches)) == sorted(window.events for window in windows)
    assert max(len(batch.lengths) for batch in batches) <= users


def test_the_same_seed_gives_the_same_batches() -> None:
    """Whatever else has drawn random numbers in between."""
    windows = windows_of(60)
    first = rows_of(epoch(windows, seed=3))
    torch.rand(5)
    assert rows_of(epoch(windows, seed=3)) == first
    for seed in (2, 4):
        assert rows_of(epoch(windows, seed=seed)) != first


def test_drawing_batches_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    epoch(windows_of(20))
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_hold_windows_of_similar_length() -> None:
    """Padding costs time: sorting within pools leaves a small part of a random batch's."""
    windows = windows_of(48)  # one pool

    def padding(batches: list[Batch]) -> int:
        return sum(int((~batch.valid).sum()) for batch in batches)

    unsorted = [to_batch(windows[i : i + 3]) for i in range(0, len(windows), 3)]
    batches = epoch(windows)
    assert padding(batches) * 4 < padding(unsorted)
    widths = [batch.items.shape[1] for batch in batches]
    assert widths != sorted(widths)  # and yet the batches come in a random order


def test_the_last_window_alone_can_be_asked_for() -> None:
    histories = [counted_history(8), counted_history(1, user=1), counted_history(3, user=2)]
    windows = training_windows(histories, 3, last_only=True)
    assert [len(window) for window in windows] == [4, 3]
    assert [window.anchor for window in windows] == [4, 0]


@pytest.mark.parametrize(("windows", "parts"), [(7, 1), (7, 2), (7, 3), (7, 7), (2, 5)])
def test_parts_of_a_step_hold_its_windows_evenly(windows: int, parts: int) -> None:
    step = windows_of(windows)
    batches = parts_of(step, parts)
    assert sorted(rows_of(batches)) == sorted(window.events for window in step)
    sizes = [len(batch.lengths) for batch in batches]
    assert len(sizes) == min(windows, parts)
    assert max(sizes) - min(sizes) <= 1
