"""Reading files: tensors alone, out of whatever wraps them, and clear words for the rest."""

import argparse
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.importers.source import TORCH_SUFFIXES, read_weights
from model.importers.weights import ForeignWeights, ImportFailed

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}


class RunsCode:
    """What an attacker's file holds: reading it as a pickle runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def check(weights: ForeignWeights) -> None:
    assert torch.equal(weights.take("a.weight", 2, 3), TENSORS["a.weight"])
    taken = weights.take("b", 2)
    assert taken.dtype == torch.float32
    assert torch.equal(taken, torch.ones(2))
    weights.finish()


@pytest.mark.parametrize("suffix", [".safetensors", *TORCH_SUFFIXES])
def test_tensors_are_read_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path)
    check(read_weights(path))


@pytest.mark.parametrize(
    "wrapped",
    [
        {"model_state_dict": TENSORS, "epoch": 3, "optimizer": {"lr": 0.1, "betas": (0.9, 0.98)}},
        {"state_dict": TENSORS, "global_step": 7},
        {"model": TENSORS},
        {"model": {"state_dict": TENSORS}},
        {f"module.{name}": tensor for name, tensor in TENSORS.items()},
        {"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}},
    ],
    ids=["model_state_dict", "state_dict", "model", "nested", "module", "both"],
)
def test_wrappers_are_taken_off(tmp_path: Path, wrapped: dict[str, object]) -> None:
    torch.save(wrapped, tmp_path / "model.pt")
    check(read_weights(tmp_path / "model.pt"))


def test_a_prefix_that_not_all_names_have_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "model.pt")
    weights = read_weights(tmp_path / "model.pt")
    assert "module.a" in weights
    assert "b" in weights


def test_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": RunsCode(tmp_path / "ran")}, tmp_path / "model.pt")
    with pytest.raises(ImportFailed, match=r"model\.pt .*export the state dict alone"):
        read_weights(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [torch.nn.Linear(2, 3), {"state_dict": TENSORS, "arguments": argparse.Namespace(lr=1)}],
    ids=["module", "namespace"],
)
def test_what_only_code_can_read_is_refused_with_advice(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ImportFailed, match="export the state dict alone") as raised:
        read_weights(tmp_path / "model.pth")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([torch.ones(1)], "a list"),
        (torch.ones(3), "a Tensor"),
        ({}, "no tensors"),
        ({"state_dict": {}}, "no tensors"),
        ({"a": torch.ones(1), "epoch": 3}, "'epoch' is no tensor but of type int"),
        ({"a": torch.ones(1), "nothing": None}, "'nothing' is no tensor"),
        ({1: torch.ones(1)}, "1 is no tensor"),
    ],
    ids=["list", "tensor", "empty", "empty-inside", "number", "none", "key"],
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, content: object, named: str) -> None:
    torch.save(content, tmp_path / "model.bin")
    with pytest.raises(ImportFailed, match=named):
        read_weights(tmp_path / "model.bin")


@pytest.mark.parametrize("suffix", [".safetensors", *TORCH_SUFFIXES])
@pytest.mark.parametrize("content", ["none", "empty", "cut", "cut-old", "text", "folder"])
def test_an_unreadable_file_is_named(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"model{suffix}"
    if content == "folder":
        path.mkdir()
    elif content.startswith("cut"):
        if suffix == ".safetensors":
            save_file(TENSORS, path)
        else:
            torch.save(TENSORS, path, _use_new_zipfile_serialization=content == "cut")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif content != "none":
        path.write_text("" if content == "empty" else "hello\n" * 99)
    with pytest.raises(ImportFailed, match=path.name) as raised:
        read_weights(path)
    assert "code" not in str(raised.value)


def test_an_unknown_kind_of_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.h5").touch()
    with pytest.raises(ImportFailed, match=r"model\.h5 .*\.safetensors"):
        read_weights(tmp_path / "model.h5")
