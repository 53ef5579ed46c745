"""Saving a checkpoint folder and loading it again; saves that fail; the fingerprint."""

import contextlib
import errno
import json
import stat
from pathlib import Path

import pytest

import model.checkpoint
from model.checkpoint import CONFIG, ITEMS, Checkpoint, CheckpointError, load, save
from model.config import ActionTask, ValueFormula
from model.items import Items
from tests.model.builders import assert_close
from tests.model.checkpoints import FILES, contents, edit_config, make_checkpoint

DEMO = Path(model.checkpoint.__file__).parents[1] / "checkpoints" / "demo"


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    tasks = (
        ActionTask(name="watch", kind="multilabel", actions=("click", "finish"), weight=0.5),
        ActionTask(name="rating", actions=("down", "up")),
    )
    value = ValueFormula(retrieval=0.5, actions={"up": 1.0})
    saved = make_checkpoint(tasks=tasks, value=value, divisor=9.0, bias_heads="per_head")
    save(saved, tmp_path / "new" / "tiny")
    loaded = load(tmp_path / "new" / "tiny")
    assert (loaded.name, loaded.config) == (saved.name, saved.config)
    assert (loaded.items.rows, loaded.training) == (saved.items.rows, saved.training)
    assert loaded.digests() == saved.digests()
    assert loaded.cacheability == saved.cacheability
    before, after = saved.network.state_dict(), loaded.network.state_dict()
    assert list(after) == list(before)
    assert_close(list(after.values()), list(before.values()), tolerance=0)


def test_a_network_in_training_is_loaded_for_evaluation(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    checkpoint.network.train()
    save(checkpoint, tmp_path / "tiny")
    assert not load(tmp_path / "tiny").network.training
    assert checkpoint.network.training


def test_the_bundled_checkpoint_is_of_this_format() -> None:
    assert (
        load(DEMO).digests().fingerprint.hex()
        == json.loads((DEMO / CONFIG).read_text())["fingerprint"]
    )


def test_titles_and_further_columns_may_change(folder: Path) -> None:
    before = load(folder)
    rows = [row | {"title": "new", "year": "1999"} for row in before.items.rows]
    (folder / ITEMS).write_text(Items(rows).to_csv())
    after = load(folder)
    assert after.items.metadata(3) == {"title": "new", "year": "1999"}
    assert after.digests().fingerprint == before.digests().fingerprint


def test_the_name_and_the_training_record_may_be_edited(folder: Path) -> None:
    before = load(folder).digests()
    edit_config(folder, lambda config: config.update(name="renamed", training={"note": "mine"}))
    loaded = load(folder)
    assert (loaded.name, loaded.training) == ("renamed", {"note": "mine"})
    assert loaded.digests() == before


def test_the_fingerprint_is_of_config_weights_and_ids() -> None:
    def fingerprint(checkpoint: Checkpoint) -> bytes:
        return checkpoint.digests().fingerprint

    plain = make_checkpoint()
    reordered = Checkpoint(plain.name, plain.network, Items(plain.items.rows[::-1]))
    others = [
        make_checkpoint(seed=1),
        make_checkpoint(norm_eps=0.2),
        make_checkpoint(window={"capacity": 64, "keep": 41}),
        make_checkpoint(value=ValueFormula(retrieval=2.0)),
        reordered,
    ]
    found = {fingerprint(checkpoint) for checkpoint in (plain, *others)}
    assert len(found) == 6
    assert {len(one) for one in found} == {16}
    renamed = Checkpoint("other", plain.network, plain.items, {"epochs": 9})
    for same in (renamed, make_checkpoint(), make_checkpoint(title="show")):
        assert fingerprint(same) == fingerprint(plain)


def test_saving_again_replaces_the_checkpoint_and_keeps_other_files(folder: Path) -> None:
    (folder / "LICENSE").write_text("mine")
    (folder / "histories.json").write_text("[]")
    save(make_checkpoint(seed=1, title="show"), folder)
    assert set(contents(folder)) == FILES | {"LICENSE", "histories.json"}
    assert (folder / "LICENSE").read_text() == "mine"
    loaded = load(folder)
    assert loaded.digests() == make_checkpoint(seed=1).digests()
    assert loaded.items.metadata(0) == {"title": "show 0"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_saving_never_deletes_a_folder_within(tmp_path: Path) -> None:
    """Whether it is kept or the save refused: `--out` may name a folder with more in it."""
    precious = tmp_path / "tiny" / "runs" / "notes.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with contextlib.suppress(CheckpointError, OSError):
        save(make_checkpoint(), tmp_path / "tiny")
    assert precious.exists()


def test_files_can_be_read_by_other_users(folder: Path) -> None:
    """A server rarely runs as the user who trained."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}


@pytest.mark.parametrize("failing", ["weights", "items"])
def test_a_save_that_fails_leaves_the_old_folder_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    (folder / "LICENSE").write_text("mine")
    before = contents(folder)

    if failing == "weights":
        monkeypatch.setattr("model.checkpoint.save_file", full)
    else:
        monkeypatch.setattr(Items, "to_csv", full)
    with pytest.raises(OSError, match="No space left"):
        save(make_checkpoint(seed=1), folder)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_first_save_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save(make_checkpoint(), tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOTEMPTY, "Directory not empty"),
        KeyboardInterrupt(),
    ],
    ids=["os error", "interrupt"],
)
def test_a_save_that_ends_at_the_last_step_leaves_a_whole_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """A file held open on a network mount is enough: the old folder then stays in the way."""
    rename = Path.rename
    failures = [failure]

    def fail_once(self: Path, target: Path) -> Path:
        if Path(target) == folder and failures:
            raise failures.pop()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with contextlib.suppress(CheckpointError, OSError, KeyboardInterrupt):
        save(make_checkpoint(), folder)
    assert load(folder).digests() == make_checkpoint().digests()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
