"""Owns the checkpoint folder: config.json, weights.safetensors, items.csv. Never pickle.

config.json holds digests of the parts; the fingerprint is a hash of all but the last, the
calibration, which states do not depend on, and is part of every state key. A folder is written
beside its place and renamed, so it is whole or not there.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.cacheability import Cacheability, classify
from model.calibration import Calibration
from model.config import HSTUConfig
from model.errors import InputError, problems
from model.items import Items, ItemsError
from model.network.hstu import HSTU

CONFIG, WEIGHTS, ITEMS = "config.json", "weights.safetensors", "items.csv"
FORMAT = 1


class CheckpointError(InputError):
    """A checkpoint folder can not be used; the message names the file and what to do."""


class Digests(BaseModel):
    """sha256 of each part. Weights: over names, shapes and bytes of all tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    weights: str
    items: str
    calibration: str | None = None

    @property
    def fingerprint(self) -> bytes:
        """16 bytes. The same whatever the calibration, which states do not depend on."""
        text = f"{FORMAT}\n{self.model}\n{self.weights}\n{self.items}"
        return hashlib.sha256(text.encode()).digest()[:16]


class _ConfigFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: int
    name: str
    fingerprint: str
    digests: Digests
    model: HSTUConfig
    calibration: Calibration | None = None
    training: dict[str, object]

    @model_validator(mode="after")
    def _is_of_its_actions(self) -> Self:
        found, expected = self.calibration, len(self.model.actions)
        if found and not len(found.scale) == len(found.bias) == expected:
            raise ValueError(
                f"calibration: needs {expected} scales and biases, one for each action"
            )
        return self


@dataclass(frozen=True)
class Checkpoint:
    """A network with its item vocabulary. `training` says how it came to be, free-form."""

    name: str
    network: HSTU
    items: Items
    training: dict[str, object] = field(default_factory=dict)

    @property
    def config(self) -> HSTUConfig:
        return self.network.config

    @property
    def cacheability(self) -> Cacheability:
        return classify(self.config)

    @property
    def calibration(self) -> Calibration | None:
        return self.network.calibration

    def digests(self) -> Digests:
        calibration = self.calibration
        return Digests(
            model=_sha256(_canonical_json(self.config)),
            weights=_tensors_digest(self.network.state_dict()),
            items=self.items.digest(),
            calibration=_sha256(_canonical_json(calibration)) if calibration else None,
        )


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write `folder`, replacing it as a whole if it is there; other files in it are kept.

    Raises:
        CheckpointError: `folder` holds folders, so it is more than a checkpoint.
        OSError: not writable; what was there is still there.
    """
    if folder.is_dir() and any(path.is_dir() for path in folder.iterdir()):
        raise CheckpointError(f"{folder} holds other folders; choose one for the checkpoint alone")
    digests = checkpoint.digests()
    config = _ConfigFile(
        format=FORMAT,
        name=checkpoint.name,
        fingerprint=digests.fingerprint.hex(),
        digests=digests,
        model=checkpoint.config,
        calibration=checkpoint.calibration,
        training=checkpoint.training,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        beside.chmod(0o755)
        tensors = {k: t.cpu().contiguous() for k, t in checkpoint.network.state_dict().items()}
        save_file(tensors, beside / WEIGHTS)
        (beside / ITEMS).write_text(checkpoint.items.to_csv(), encoding="utf-8")
        (beside / CONFIG).write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
        for file in beside.iterdir():
            file.chmod(0o644)
        _keep_other_files(folder, beside)
        _replace(folder, beside)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def load(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder.

    Raises:
        CheckpointError: a file is missing, cut short, malformed or does not belong to the others.
    """
    config = _look(folder)
    try:
        items = Items.read(folder / ITEMS)
    except ItemsError as error:
        raise CheckpointError(f"{folder / ITEMS}: {error}") from error
    if len(items) != config.model.num_items:
        raise CheckpointError(
            f"{folder / ITEMS} lists {len(items)} items, {CONFIG} says {config.model.num_items}"
        )
    network = HSTU(config.model)
    _load_weights(network, folder / WEIGHTS)
    network.calibration = config.calibration
    checkpoint = Checkpoint(config.name, network.eval(), items, config.training)
    _verify_digests(checkpoint.digests(), config, folder)
    return checkpoint


def check(folder: Path) -> None:
    """What `load` would find wrong without reading items and weights, at once.

    Raises:
        CheckpointError: a file is missing, or the configuration malformed.
    """
    _look(folder)


def _look(folder: Path) -> _ConfigFile:
    for name in (CONFIG, WEIGHTS, ITEMS):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name} is missing; a checkpoint is a folder with "
                f"{CONFIG}, {WEIGHTS} and {ITEMS}, as `mfalcon train --out` writes it"
            )
    return _read_config(folder / CONFIG)


def _read_config(path: Path) -> _ConfigFile:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path}: format {found!r}; this version reads format {FORMAT}")
    try:
        return _ConfigFile.model_validate(raw)
    except ValidationError as error:
        where, what = next(problems(error))
        raise CheckpointError(f"{path}: {where or 'config'}: {what}") from error


def _load_weights(network: HSTU, path: Path) -> None:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or cut short: {error}") from error
    expected = network.state_dict()
    missing, extra = (
        sorted(expected.keys() - tensors.keys()),
        sorted(tensors.keys() - expected.keys()),
    )
    if missing or extra:
        raise CheckpointError(f"{path}: missing tensors {missing}, unexpected tensors {extra}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise CheckpointError(
                f"{path}: {name} is {_describe(tensor)}, {CONFIG} asks for "
                f"{_describe(expected[name])}"
            )
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path}: {name} holds NaN or infinite values")
    network.load_state_dict(tensors)


def _verify_digests(actual: Digests, config: _ConfigFile, folder: Path) -> None:
    files = {"model": CONFIG, "calibration": CONFIG, "weights": WEIGHTS, "items": ITEMS}
    for part, name in files.items():
        if getattr(actual, part) != getattr(config.digests, part):
            raise CheckpointError(
                f"{folder / name} does not match the digest in {CONFIG}: it was edited, or comes "
                "from another checkpoint; restore the file or export the checkpoint again"
            )
    if actual.fingerprint.hex() != config.fingerprint:
        raise CheckpointError(f"{folder / CONFIG}: fingerprint does not match its digests")


def _keep_other_files(old: Path, new: Path) -> None:
    """Licences, demo histories and the like stay when a checkpoint is written again."""
    for file in old.iterdir() if old.is_dir() else ():
        if file.is_file() and not (new / file.name).exists():
            shutil.copy2(file, new / file.name)


def _replace(old: Path, new: Path) -> None:
    """`new` takes the place of `old`; whatever interrupts that, `old` is back or still there."""
    if not old.exists():
        new.rename(old)
        return
    aside = old.with_name(f"{new.name}.old")
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _canonical_json(config: BaseModel) -> bytes:
    """Without what is at its default, so that an option added later changes no fingerprint."""
    return json.dumps(
        config.model_dump(mode="json", exclude_defaults=True), sort_keys=True
    ).encode()


def _tensors_digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\n{_describe(tensor)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
