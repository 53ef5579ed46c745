"""Owns reading a state dict from a file: safetensors, or a torch file of tensors alone.

Never runs foreign code: torch files are read with `weights_only`, which builds tensors, numbers and
containers and refuses everything else.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.importers.weights import ForeignWeights, ImportFailed

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")

_ADVICE = "export the state dict alone: torch.save(model.state_dict(), file)"
_WRAPPERS = ("model_state_dict", "state_dict", "model")
_NEEDS_CODE = re.compile("unsupported (global|class)|GLOBAL|TorchScript", re.IGNORECASE)


def read_weights(path: Path) -> ForeignWeights:
    """A state dict, out of the training checkpoint and the parallel wrapper it may be in.

    Raises:
        ImportFailed: missing, damaged, of another format, or not tensors alone.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        elif path.suffix in TORCH_SUFFIXES:
            found = _load_torch(path)
        else:
            known = ", ".join((".safetensors", *TORCH_SUFFIXES))
            raise ImportFailed(f"{path} is none of the files that are read: {known}")
    except FileNotFoundError as error:
        raise ImportFailed(f"{path} does not exist") from error
    except (OSError, SafetensorError) as error:
        raise ImportFailed(f"{path} is not readable: {error}") from error
    weights = ForeignWeights(_state_dict(found, path))
    weights.strip("module.")
    return weights


def _load_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        if _NEEDS_CODE.search(str(error)):
            raise ImportFailed(
                f"{path} can only be read by running code it names, which is not done; {_ADVICE}"
            ) from error
        raise ImportFailed(f"{path} is damaged or not a torch file") from error


def _state_dict(found: object, path: Path) -> dict[str, Tensor]:
    """The innermost of the mappings that training loops nest a state dict in."""
    while isinstance(found, Mapping):
        inner = [found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    if not isinstance(found, Mapping):
        raise ImportFailed(f"{path} holds no state dict but a {type(found).__name__}; {_ADVICE}")
    if not found:
        raise ImportFailed(f"{path} holds no tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise ImportFailed(f"{path}: {name!r} is no tensor but of type {kind}; {_ADVICE}")
    return dict(found)
