"""The training benchmark measures the same training twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.history import History
from model.network.batch import to_batch
from model.network.hstu import HSTU
from model.presets import native
from model.training.losses import Objective, count
from service.benchmark.training import measure_training
from service.benchmark.training_worker import LENGTH, plain_loss
from tests.model.builders import make_network, random_events

CSV = "user_id,item_id,timestamp\n" + "".join(
    f"{user},{(user * place) % 7},{1_600_000_000 + 60 * place}\n"
    for user in range(300)
    for place in range(4)
)


@pytest.fixture
def network() -> Iterator[HSTU]:
    with torch.random.fork_rng():
        config = native(19, tasks=(), d_model=16, num_layers=2, max_length=LENGTH, dropout=0.0)
        yield make_network(config).train()


def test_the_plain_implementation_has_the_same_loss_and_gradient(network: HSTU) -> None:
    windows = [History.of(random_events(n, seed=n)) for n in (2, 30, LENGTH + 1, 7)]

    def outcome(loss: Tensor) -> list[Tensor]:
        return [loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))]

    batch = to_batch(windows)
    own = outcome(Objective(network)(batch, count(network.config, [batch]), False))
    plain = outcome(plain_loss(network, windows))
    for mine, other in zip(own, plain, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_an_epoch_is_measured_in_rounds_of_the_same_steps(tmp_path: Path) -> None:
    data = tmp_path / "log.csv"
    data.write_text(CSV)
    rounds: list[tuple[int, int]] = []
    found = measure_training(
        str(data), rounds=2, threads=1, seed=0, on_round=lambda *done: rounds.append(done)
    )
    assert rounds == [(0, 2), (1, 2)]
    assert (found.num_steps, found.num_events) == (3, 300)
    assert len(found.ratios) == 2
    assert min(found.seconds.values()) > 0
    assert found.loss_difference < 1e-4


def test_a_contender_that_can_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended early"):
        measure_training(
            str(tmp_path / "none"), rounds=1, threads=1, seed=0, on_round=lambda *_: None
        )
