"""A calibrated checkpoint: what it says, what stays as it was, and what is refused."""

from pathlib import Path

import pytest
import torch

from model.calibration import Calibration
from model.checkpoint import CONFIG, CheckpointError, load, save
from model.config import ActionTask, ValueFormula
from model.engine.engine import Engine
from model.kernels.tensor_stack import TensorStack
from tests.model.builders import assert_close, encode, later, random_history, served
from tests.model.checkpoints import Edit, edit_config, make_checkpoint, within

CALIBRATION = Calibration(scale=(0.5, 2.0, 1.25), bias=(0.3, -0.1, 0.0))


def calibrated(folder: Path) -> Path:
    checkpoint = make_checkpoint()
    checkpoint.network.calibration = CALIBRATION
    save(checkpoint, folder / "calibrated")
    return folder / "calibrated"


def test_it_is_loaded_as_it_was_saved_and_its_states_are_the_same(tmp_path: Path) -> None:
    plain, loaded = make_checkpoint(), load(calibrated(tmp_path))
    assert loaded.calibration == CALIBRATION
    assert loaded.digests() != plain.digests()
    assert loaded.digests().fingerprint == plain.digests().fingerprint
    assert plain.digests().calibration is None


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_probabilities_are_of_scaled_and_moved_logits(kind: str) -> None:
    task = ActionTask.model_validate({"name": "t", "kind": kind, "actions": ("a", "b", "c")})
    network = make_checkpoint(tasks=(task,), value=ValueFormula()).network
    logits = torch.tensor([[1.0, -2.0, 0.4], [0.0, 0.0, 0.0]])
    moved = torch.tensor([[0.8, -4.1, 0.5], [0.3, -0.1, 0.0]])
    network.calibration = CALIBRATION
    expected = moved.softmax(1) if kind == "multiclass" else moved.sigmoid()
    assert_close([network.action_probabilities(logits)], [expected], tolerance=1e-6)


def test_the_stacks_agree_and_the_values_are_of_calibrated_probabilities(tmp_path: Path) -> None:
    network = load(calibrated(tmp_path)).network
    history = random_history(20)
    values = []
    for engine in (Engine(network), Engine(network, stack=TensorStack)):
        encoded = encode(engine, history, later(history))
        retrieval, logits = served(engine, encoded, range(5))
        probabilities = engine.action_probabilities(logits)
        expected = (
            logits * torch.tensor([0.5, 2.0, 1.25]) + torch.tensor([0.3, -0.1, 0.0])
        ).softmax(1)
        assert_close([probabilities], [expected], tolerance=1e-6)
        values.append(engine.values(retrieval, probabilities))
        by_hand = retrieval + expected[:, 2] - expected[:, 0]
        assert_close([values[-1]], [by_hand])
    assert_close(values[:1], values[1:])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: within(c, "calibration").update(bias=[0.3, -0.1, 0.1]), "does not match"),
        (lambda c: c.pop("calibration"), "does not match"),
        (lambda c: within(c, "digests").pop("calibration"), "does not match"),
        (lambda c: within(c, "calibration").update(scale=[1.0, 1.0]), "needs 3 scales and biases"),
        (lambda c: within(c, "calibration").update(scale=[1.0, 0.0, 1.0]), "greater than 0"),
        (lambda c: within(c, "calibration").update(bias=["NaN", 0.0, 0.0]), "finite number"),
    ],
)
def test_one_that_was_edited_is_refused(tmp_path: Path, edit: Edit, message: str) -> None:
    folder = calibrated(tmp_path)
    edit_config(folder, edit)
    with pytest.raises(CheckpointError, match=rf"{CONFIG}.*{message}"):
        load(folder)
