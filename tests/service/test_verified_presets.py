"""`mfalcon verify` passes on every formulation, in the way its class promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cache import Dtype
from model.checkpoint import Checkpoint
from model.config import Window
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.importers.formats import FORMATS
from model.importers.options import ImportOptions
from model.importers.weights import ForeignWeights
from model.items import Items
from model.network.hstu import HSTU
from model.presets import PRESETS
from service.exactness import TOLERANCE, relative_tolerance
from service.row_format import QUANTISED
from service.verification import cases
from service.verification.cases import RelativeAnswer, RightAnswer
from service.verification.users import VerifiedUser, sample_users
from tests.model.builders import NUM_ITEMS, make_network
from tests.model.importers.states import LENGTH, state
from tests.service.stores import roomy_store

SIZES = {"d_model": 16, "num_layers": 2, "num_heads": 2, "qk_dim": 8, "v_dim": 8}


@pytest.fixture(
    params=[
        *PRESETS,
        "native with a strict window",
        "native with repeats",
        "native with a gate",
        "native with an MLP",
        *(f"imported {name}" for name in FORMATS),
    ],
    scope="module",
)
def checkpoint(request: pytest.FixtureRequest) -> Iterator[Checkpoint]:
    with torch.random.fork_rng():
        kind, _, what = request.param.partition(" ")  # a preset, perhaps with; or a source
        network = imported(what) if kind == "imported" else native(kind, what)
        items = Items([{"item_id": f"i{n}"} for n in range(network.config.num_items)])
        yield Checkpoint(request.param, network, items)


def native(preset: str, what: str) -> HSTU:
    config = PRESETS[preset](NUM_ITEMS, max_length=16, **SIZES)
    changes: dict[str, object] = {"temperature": 20 * config.temperature}
    if what == "with a strict window":
        changes["window"] = Window(capacity=16, keep=16)
    if what == "with repeats":
        changes["repeat_bias"] = True
    if what == "with a gate":
        changes["fusion"] = "gate"
    if what == "with an MLP":
        changes["fusion"] = "mlp"
    return make_network(config.model_copy(update=changes))


def imported(source: str) -> HSTU:
    heads = {"meta": 2, "rectools": 2}
    length = {"genrec": LENGTH}
    options = ImportOptions(heads=heads.get(source), length=length.get(source))
    return FORMATS[source].read(ForeignWeights(state(source)), options).network()


@pytest.fixture(scope="module")
def users(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[VerifiedUser, RightAnswer]]:
    nowhere = tmp_path_factory.mktemp("empty")
    return [
        (user, RightAnswer.of(checkpoint.network, user))
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


@pytest.mark.parametrize("dtype", QUANTISED, ids=lambda dtype: dtype.label)
def test_states_in_fewer_bits_are_within_their_bound(
    checkpoint: Checkpoint, users: list[tuple[VerifiedUser, RightAnswer]], dtype: Dtype
) -> None:
    engine = Engine(checkpoint.network)
    relative = RelativeAnswer.among([right for _, right in users])
    pairs = [(user, right) for (user, _), right in zip(users, relative, strict=True)]
    exact, found = (
        max(cases.through_store(engine, pairs, roomy_store, bytes(16), each))
        for each in (Dtype.FLOAT32, dtype)
    )
    assert found <= relative_tolerance(dtype)
    if checkpoint.cacheability.across_requests:
        assert found > exact  # rounded numbers were read


def test_rows_are_kept_only_by_the_class_that_may_reuse_them(
    checkpoint: Checkpoint, users: list[tuple[VerifiedUser, RightAnswer]]
) -> None:
    engine = Engine(checkpoint.network)
    user, _ = users[3]  # a full window
    (encoded,) = engine.encode([EncodeJob(engine.empty_state(), user.history)])
    kept = len(user.history) - 1 if checkpoint.cacheability.across_requests else 0
    assert encoded.state.num_final == kept
