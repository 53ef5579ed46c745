"""A checkpoint folder that is not whole is refused, with the file and the reason."""

from pathlib import Path

import pytest
import torch

from model.checkpoint import CONFIG, ITEMS, WEIGHTS, CheckpointError, load, save
from tests.model.builders import NUM_ITEMS
from tests.model.checkpoints import (
    FILES,
    Edit,
    edit_config,
    edit_items,
    edit_weights,
    make_checkpoint,
    within,
)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is missing; .*mfalcon train"):
        load(folder)


def test_a_missing_folder_says_what_a_checkpoint_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing; a checkpoint is a folder with"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [0, 4, 7, 100, 0.5, -1])
def test_weights_cut_short_are_refused(folder: Path, kept: float) -> None:
    data = (folder / WEIGHTS).read_bytes()
    size = int(len(data) * kept) if isinstance(kept, float) else int(kept)
    (folder / WEIGHTS).write_bytes(data[:size])
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} is damaged or cut short"):
        load(folder)


def test_weights_of_another_checkpoint_are_refused(folder: Path, tmp_path: Path) -> None:
    save(make_checkpoint(seed=1), tmp_path / "other")
    (folder / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} does not match the digest"):
        load(folder)


def test_one_changed_weight_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors["items.weight"][3, 2].add_(1e-3))
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} does not match the digest"):
        load(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_weight_that_is_not_finite_is_refused(folder: Path, value: float) -> None:
    edit_weights(folder, lambda tensors: tensors["layers.0.uvqk"][1, 1].fill_(value))
    with pytest.raises(CheckpointError, match=r"layers\.0\.uvqk holds NaN or infinite"):
        load(folder)


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"items.weight": torch.zeros(NUM_ITEMS, 8)}))
    message = rf"items\.weight is float32\[{NUM_ITEMS}, 8\], .* float32\[{NUM_ITEMS}, 16\]"
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_tensor_of_another_type_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"items.weight": t["items.weight"].bfloat16()}))
    with pytest.raises(CheckpointError, match=r"items\.weight is bfloat16"):
        load(folder)


def test_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"layers.9.uvqk": t.pop("layers.0.uvqk")}))
    message = r"missing tensors \['layers\.0\.uvqk'\], unexpected tensors \['layers\.9\.uvqk'\]"
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(("old", "new"), [("i3,", "i33,"), ("i3,film 3\ni4,", "i4,film 3\ni3,")])
def test_changed_ids_are_refused(folder: Path, old: str, new: str) -> None:
    edit_items(folder, old, new)
    with pytest.raises(CheckpointError, match=rf"{ITEMS} does not match the digest"):
        load(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("i3,film 3\n", "", f"lists {NUM_ITEMS - 1} items, config.json says {NUM_ITEMS}"),
        ("i3,film 3\n", "i3\n", "line 5 has a different number of fields"),
        ("i3,", "i4,", "appears twice"),
        ("item_id", "id", "needs a header with an item_id column"),
    ],
)
def test_broken_items_are_refused(folder: Path, old: str, new: str, message: str) -> None:
    edit_items(folder, old, new)
    with pytest.raises(CheckpointError, match=rf"{ITEMS}.*{message}"):
        load(folder)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"format": 1,}'])
def test_a_config_that_is_not_json_is_refused(folder: Path, data: bytes) -> None:
    (folder / CONFIG).write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{CONFIG} is not JSON"):
        load(folder)


@pytest.mark.parametrize("data", ["[]", "3", "{}", '{"format": 2}', '{"format": "1"}'])
def test_another_format_is_refused(folder: Path, data: str) -> None:
    (folder / CONFIG).write_text(data)
    with pytest.raises(CheckpointError, match=r"format .*; this version reads format 1"):
        load(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("digests"), "digests: Field required"),
        (lambda c: c.update(extra=1), "extra: Extra inputs"),
        (lambda c: within(c, "model").update(num_layers=0), r"model\.num_layers: "),
        (lambda c: within(c, "model").update(layers=2), r"model\.layers: Extra inputs"),
        (lambda c: within(c, "model", "window").update(keep=500), r"window\.keep 500 exceeds"),
        (lambda c: within(c, "model").update(temperature=0.5), "does not match the digest"),
        (lambda c: within(c, "digests").update(model="0"), "does not match the digest"),
        (lambda c: c.update(fingerprint="00" * 16), "fingerprint does not match"),
    ],
)
def test_a_config_that_was_edited_is_refused(folder: Path, edit: Edit, message: str) -> None:
    edit_config(folder, edit)
    with pytest.raises(CheckpointError, match=rf"{CONFIG}.*{message}"):
        load(folder)
