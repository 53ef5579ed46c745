"""Every format: what is missing, left over, misshapen or not told is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.importers.formats import FORMATS, import_file
from model.importers.imported import Imported
from model.importers.options import ImportOptions
from model.importers.weights import ForeignWeights, ImportFailed
from tests.model.importers.states import LENGTH, NUM_ITEMS, OPTIONS, optional, state

AGES = "time_embedding.weight"
ANY_LENGTH = ("item", "token_embedding", "time_embedding", "position_bias")
"""Tables whose length nothing else depends on: a longer one is another model, a fine one."""
POSITIONS = "pos_encoding_layer.pos_emb.weight"


def read(name: str, tensors: dict[str, Tensor], options: ImportOptions | None = None) -> Imported:
    return FORMATS[name].read(ForeignWeights(tensors), options or OPTIONS[name])


def without(tensors: dict[str, Tensor], *parts: str) -> dict[str, Tensor]:
    return {k: t for k, t in tensors.items() if not any(part in k for part in parts)}


@pytest.mark.parametrize("name", FORMATS)
def test_all_tensors_of_the_network_are_filled(name: str) -> None:
    found = read(name, state(name))
    network = found.network()
    assert set(found.tensors) | {"retrieval.prior"} == set(network.state_dict())
    assert len(found.item_ids) == found.config.num_items
    assert found.item_ids[0] == "1"


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_tensor_is_named(name: str) -> None:
    tensors = state(name)
    for gone in tensors.keys() - optional(name):
        if "0.rel_attn" in gone:  # switched off as a whole; the second block's is then left over
            expected = "unknown tensors"
        else:
            expected = f"tensor {gone} is missing".replace(".", r"\.")
        with pytest.raises(ImportFailed, match=expected):
            read(name, {k: t for k, t in tensors.items() if k != gone})


@pytest.mark.parametrize("name", FORMATS)
def test_an_unknown_tensor_is_named(name: str) -> None:
    with pytest.raises(ImportFailed, match="surprise"):
        read(name, state(name) | {"surprise": torch.zeros(1)})


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("damage", ["shape", "dims", "nan", "dtype"])
def test_an_impossible_tensor_is_an_import_failure(name: str, damage: str, tmp_path: Path) -> None:
    tensors = state(name)
    for key, tensor in without(tensors, "_attn_mask").items():
        broken = tensor.clone()
        if damage == "shape":
            broken = torch.cat((broken, broken, broken))
        elif damage == "dims":
            broken = broken.unsqueeze(0)
        elif damage == "nan":
            broken.view(-1)[-1] = torch.nan
        else:
            broken = broken.long()
        path = tmp_path / "broken.safetensors"
        save_file(tensors | {key: broken}, path)
        try:
            found = import_file(name, path, OPTIONS[name])
        except ImportFailed:
            continue
        assert damage == "shape"
        assert any(table in key for table in ANY_LENGTH)
        found.network()


@pytest.mark.parametrize("name", FORMATS)
def test_an_option_of_no_use_is_refused(name: str, tmp_path: Path) -> None:
    save_file(state(name), tmp_path / "weights.safetensors")
    every: dict[str, Any] = {
        "heads": 2,
        "length": LENGTH,
        "temperature": 0.5,
        "similarity": "dot",
        "item_scale": "none",
        "time_fn": "log",
        "time_unit_s": 1,
        "time_width": 0.3,
    }
    for option in every.keys() - FORMATS[name].options:
        flag = f"--{option.replace('_', '-')}"
        options = OPTIONS[name].model_copy(update={option: every[option]})
        with pytest.raises(ImportFailed, match=f"{flag}: of no use for {name}"):
            import_file(name, tmp_path / "weights.safetensors", options)


@pytest.mark.parametrize("name", ["meta", "rectools"])
def test_heads_are_asked_for_where_weights_do_not_tell(name: str) -> None:
    with pytest.raises(ImportFailed, match="--heads is needed"):
        read(name, state(name), ImportOptions())
    with pytest.raises(ImportFailed, match=r"--heads 3|does not fit"):
        read(name, state(name), ImportOptions(heads=3))


def test_rectools_asks_for_a_length_only_where_no_table_tells_it() -> None:
    tensors = without(state("rectools"), POSITIONS, "pos_weights")
    with pytest.raises(ImportFailed, match="--length is needed"):
        read("rectools", tensors)
    found = read("rectools", tensors, ImportOptions(heads=2, length=LENGTH))
    assert (found.config.positions, found.config.max_distance) == ("none", 0)
    assert found.config.window.capacity == found.config.divisor == LENGTH
    for told in (state("rectools"), without(state("rectools"), POSITIONS)):
        with pytest.raises(ImportFailed, match="--length 7 is not the 6"):
            read("rectools", told, ImportOptions(heads=2, length=7))


def test_rectools_without_times_has_no_time_bias() -> None:
    found = read("rectools", without(state("rectools"), "time_weights"))
    assert found.config.time_bias is None
    assert found.network().layers


def test_rechub_has_a_bias_per_item_where_the_weights_hold_one() -> None:
    bias = torch.arange(NUM_ITEMS + 1.0)
    found = read("rechub", state("rechub") | {"output_bias": bias})
    assert found.config.item_bias
    assert torch.equal(found.tensors["retrieval.bias"], bias[1:])  # padding is never scored
    assert not read("rechub", without(state("rechub"), "output_bias")).config.item_bias


def test_rechub_refuses_an_output_with_a_table_of_its_own() -> None:
    untied = {"output_projection.weight": torch.ones(NUM_ITEMS + 1, 8)}
    with pytest.raises(ImportFailed, match="tie_embeddings=True"):
        read("rechub", state("rechub") | untied)


def test_rechub_embeds_ages_where_the_weights_hold_them() -> None:
    with_ages = read("rechub", state("rechub")).config.input_times
    assert with_ages is not None
    assert with_ages.num_buckets == 19  # the table has one row more
    assert read("rechub", without(state("rechub"), AGES)).config.input_times is None


def test_a_value_that_the_configuration_refuses_is_named(tmp_path: Path) -> None:
    save_file(state("rechub"), tmp_path / "weights.safetensors")
    with pytest.raises(ImportFailed, match="temperature"):
        import_file("rechub", tmp_path / "weights.safetensors", ImportOptions(temperature=0.0))
