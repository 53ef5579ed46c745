"""`mfalcon verify` passes on every formulation, in the way its class promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.items import Items
from model.presets import PRESETS
from service.verification import cases
from service.verification.cases import RightAnswer
from service.verification.run import TOLERANCE
from service.verification.users import VerifiedUser, sample_users
from tests.model.builders import NUM_ITEMS, make_network
from tests.service.stores import roomy_store

SIZES = {"d_model": 16, "num_layers": 2, "num_heads": 2, "qk_dim": 8, "v_dim": 8}


@pytest.fixture(params=PRESETS, scope="module")
def checkpoint(request: pytest.FixtureRequest) -> Iterator[Checkpoint]:
    with torch.random.fork_rng():
        config = PRESETS[request.param](NUM_ITEMS, max_length=16, **SIZES)
        softer = config.model_copy(update={"temperature": 20 * config.temperature})
        items = Items([{"item_id": f"i{n}"} for n in range(NUM_ITEMS)])
        yield Checkpoint(request.param, make_network(softer), items)


@pytest.fixture(scope="module")
def users(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[VerifiedUser, RightAnswer]]:
    engine, nowhere = Engine(checkpoint.network), tmp_path_factory.mktemp("empty")
    return [
        (user, RightAnswer.of(engine, user))
        for user in sample_users(checkpoint, Path(nowhere), 8, 7, seed=5)
    ]


def test_every_case_agrees_with_the_oracle(
    checkpoint: Checkpoint, users: list[tuple[VerifiedUser, RightAnswer]]
) -> None:
    engine = Engine(checkpoint.network)
    fingerprint = checkpoint.digests().fingerprint
    for differences in (
        cases.by_microbatch(engine, users, 3),
        cases.all_users_at_once(engine, users),
        cases.every_split(engine, users),
        cases.event_by_event(engine, users),
        cases.through_store(engine, users, roomy_store, fingerprint),
    ):
        assert max(differences) <= TOLERANCE


def test_rows_are_kept_only_by_the_class_that_may_reuse_them(
    checkpoint: Checkpoint, users: list[tuple[VerifiedUser, RightAnswer]]
) -> None:
    engine = Engine(checkpoint.network)
    user, _ = users[3]  # a full window
    (encoded,) = engine.encode([EncodeJob(engine.empty_state(), user.history)])
    kept = len(user.history) - 1 if checkpoint.cacheability.across_requests else 0
    assert encoded.state.num_final == kept
