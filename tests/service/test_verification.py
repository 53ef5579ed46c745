"""`mfalcon verify` itself: whom it samples, and that it would notice a wrong answer."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from cache import Dtype
from model.checkpoint import Checkpoint
from model.engine.engine import Engine
from service.exactness import relative_tolerance
from service.row_format import QUANTISED
from service.verification import cases
from service.verification.cases import RelativeAnswer, RightAnswer
from service.verification.restart import running_service
from service.verification.users import VerifiedUser, sample_users
from tests.service.builders import NUM_ITEMS, WINDOW
from tests.service.stores import roomy_store

Verified = Sequence[tuple[VerifiedUser, RightAnswer]]
Case = Callable[[Engine, Verified], Iterator[float]]

CASES: dict[str, Case] = {
    "microbatches of 3": lambda engine, users: cases.by_microbatch(engine, users, 3),
    "one microbatch": lambda engine, users: cases.by_microbatch(engine, users, 0),
    "all users at once": cases.all_users_at_once,
    "batches": cases.in_batches,
    "every split": cases.every_split,
    "event by event": cases.event_by_event,
    "random appends": lambda engine, users: cases.random_compositions(engine, users, 1),
    "store": lambda engine, users: cases.through_store(engine, users, roomy_store, bytes(16)),
}


@pytest.fixture(scope="module")
def users(checkpoint: Checkpoint, engine: Engine, folder: Path) -> Verified:
    sampled = sample_users(checkpoint, folder, 8, 7, seed=3)
    return [(user, RightAnswer.of(engine.network, user)) for user in sampled]


def test_sampled_users_have_every_length_that_matters(users: Verified) -> None:
    lengths = [len(user.events) for user, _ in users]
    assert lengths[:6] == [0, 1, 2, WINDOW.capacity, WINDOW.capacity + 1, 2 * WINDOW.capacity + 3]
    for user, _ in users:
        times = [event.timestamp for event in user.events]
        assert times == sorted(times)
        assert len(set(user.events)) == len(user.events)
        assert len(set(user.candidates)) == 7 <= NUM_ITEMS
        had = {event.item for event in user.events}
        assert len(had & set(user.candidates)) >= min(len(had), 2)


def test_samples_are_seeded(checkpoint: Checkpoint, folder: Path) -> None:
    first, again, other = (sample_users(checkpoint, folder, 9, 5, seed) for seed in (1, 1, 2))
    assert [user.events for user in first] == [user.events for user in again]
    assert [user.events for user in first] != [user.events for user in other]


@pytest.mark.parametrize("case", CASES)
def test_every_case_agrees_with_the_oracle(engine: Engine, users: Verified, case: str) -> None:
    differences = list(CASES[case](engine, users))
    assert len(differences) >= len(users)
    assert max(differences) <= 1e-5


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("part", ["retrieval", "actions"])
def test_every_case_notices_one_wrong_logit(
    engine: Engine, users: Verified, case: str, part: str
) -> None:
    user, right = users[5]
    wrong = {"retrieval": right.retrieval.clone(), "actions": right.actions.clone()}
    wrong[part].view(-1)[0] += 1e-3
    assert max(CASES[case](engine, [(user, RightAnswer(**wrong))])) == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("dtype", QUANTISED, ids=lambda dtype: dtype.label)
@pytest.mark.parametrize("part", ["retrieval", "actions"])
def test_a_wrong_logit_is_noticed_behind_the_rounding_of_a_state(
    engine: Engine, users: Verified, dtype: Dtype, part: str
) -> None:
    user, right = users[5]
    wrong = {"retrieval": right.retrieval.clone(), "actions": right.actions.clone()}
    wrong[part].view(-1)[0] += 0.05 * float(wrong[part].abs().max())
    (relative,) = RelativeAnswer.among([RightAnswer(**wrong)])
    pairs = [(user, relative)]
    (found,) = cases.through_store(engine, pairs, roomy_store, bytes(16), dtype)
    assert found > relative_tolerance(dtype)


def test_a_difference_that_is_not_a_number_is_noticed(users: Verified) -> None:
    _, right = users[1]
    wrong = torch.full_like(right.actions, torch.nan)
    assert not right.difference(right.retrieval, wrong) <= 1e-5


def test_a_service_that_logs_a_lot_is_not_held_up(folder: Path) -> None:
    """A pipe that nobody reads takes 64 KiB."""
    with running_service(folder, "memory") as client:
        for _ in range(800):
            assert client.get("/nowhere", timeout=5).status_code == 404
