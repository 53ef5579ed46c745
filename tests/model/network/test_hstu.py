"""Train as you serve: the padded forward of training holds exactly the rows that are served."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from model.history import History
from model.network.batch import Batch, to_batch
from model.network.hstu import HSTU
from tests.model.builders import (
    FORMULATIONS,
    assert_close,
    make_network,
    random_events,
    random_history,
    right_answers,
    tiny_config,
)

LENGTHS = (2, 9, 45, 17, 1)


def histories(lengths: Sequence[int] = LENGTHS) -> list[History]:
    return [random_history(length, seed=seed) for seed, length in enumerate(lengths)]


def assert_rows_are_served(network: HSTU, users: list[History]) -> None:
    """Position by position: event i's candidate after i events, as of its own time."""
    rows = network(to_batch(users))
    assert rows.candidates is not None
    actions = network.action_logits(rows.candidates)
    queries = network.retrieval.prepare(rows.events)
    table = network.retrieval.prepare_items(network.items.weight)
    retrieval = network.retrieval(queries, table)
    for user, history in enumerate(users):
        for i, event in enumerate(history.events):
            expected = right_answers(network, history.cut(0, i), event.timestamp, [event.item])
            assert_close([actions[user, i]], [expected[1][0]])
            if i:
                logits = retrieval[user, i - 1].clone()
                network.retrieval.add_repeat_(logits, history.items[:i])
                assert_close([logits[event.item]], [expected[0][0]])


@pytest.mark.parametrize("name", list(FORMULATIONS))
def test_every_training_row_is_the_row_that_is_served(name: str) -> None:
    with torch.inference_mode():
        assert_rows_are_served(make_network(tiny_config(**FORMULATIONS[name])), histories())


@pytest.mark.parametrize("bias", [6.0, -6.0])
def test_large_biases_do_not_leak_from_padding_or_the_future(bias: float) -> None:
    network = make_network(tiny_config(bias_heads="per_head"), bias=bias)
    with torch.inference_mode():
        assert_rows_are_served(network, histories())


def test_events_at_one_time_are_the_rows_that_are_served() -> None:
    tied = History.of([event._replace(timestamp=7) for event in random_events(8)])
    with torch.inference_mode():
        assert_rows_are_served(make_network(), [tied, *histories((3,))])


def real_rows(network: HSTU, batch: Batch) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        rows = network(batch)
    assert rows.candidates is not None
    return rows.events[batch.valid[:, 1:]], rows.candidates[batch.valid]


def test_what_stands_in_the_padding_does_not_matter() -> None:
    network, batch = make_network(), to_batch(histories())
    padding = ~batch.valid
    generator = torch.Generator().manual_seed(1)

    def scribbled(column: Tensor, upto: int) -> Tensor:
        return torch.where(padding, torch.randint(upto, column.shape, generator=generator), column)

    other = Batch(
        scribbled(batch.items, 19),
        scribbled(batch.actions, 4),
        scribbled(batch.timestamps, 2**40),
        batch.lengths,
    )
    assert not torch.equal(other.items, batch.items)
    assert_close(real_rows(network, other), real_rows(network, batch), tolerance=0)


def test_longer_batch_mates_do_not_matter() -> None:
    network = make_network()
    short, mates = random_history(7), random_history(40, seed=9)
    events, candidates = real_rows(network, to_batch([short]))
    wide_events, wide_candidates = real_rows(network, to_batch([short, mates]))
    assert_close((wide_events[:6], wide_candidates[:7]), (events, candidates))


def test_valid_marks_the_real_events() -> None:
    batch = to_batch(histories((3, 1)))
    assert batch.valid.tolist() == [[True, True, True], [True, False, False]]


def test_dropout_acts_in_training_only() -> None:
    network, batch = make_network(tiny_config(dropout=0.5)), to_batch(histories())
    first, again = (network(batch).candidates for _ in range(2))
    assert torch.equal(first, again)
    with torch.random.fork_rng():
        dropped = network.train()(batch).candidates
    assert not torch.allclose(dropped, first)


def test_gradients_reach_every_parameter() -> None:
    network = make_network()
    rows = network(to_batch(histories()))
    assert rows.candidates is not None
    (network.action_logits(rows.candidates).sum() + rows.events.pow(2).sum()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_event_and_candidate_rows_drop_out_on_their_way_in() -> None:
    network, batch = make_network(), to_batch(histories((4, 3)))
    shapes: list[torch.Size] = []
    network.dropout.register_forward_hook(lambda _module, _given, out: shapes.append(out.shape))
    network(batch)
    assert sorted(shapes) == [(2, 3, 16), (2, 4, 16)]
