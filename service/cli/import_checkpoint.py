"""Owns `mfalcon import`. What weights do not tell are flags, the fields of `ImportOptions`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from model.importers.options import ImportOptions
from service.cli.flags import built, flags_of
from service.cli.output import say

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint


@flags_of(ImportOptions, "given")
def import_checkpoint(
    given: dict[str, Any],
    weights: Annotated[
        Path, typer.Argument(help="state dict: .safetensors, or tensors in .pt .pth .ckpt .bin")
    ],
    source: Annotated[
        Literal["meta", "rectools", "rechub", "genrec"],
        typer.Option("--from", help="the implementation that trained it"),
    ],
    out: Annotated[Path, typer.Option(help="checkpoint folder to write")],
    items: Annotated[
        Path | None,
        typer.Option(
            help="item ids in the source's index order without padding: a CSV with an item_id "
            "column, or one id per line; left out: the source's indices"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the checkpoint")] = None,
) -> None:
    """Make a checkpoint of another implementation's weights; its code is not run.

    Options that are left out have the source's own defaults. One that the source has no use for,
    because its weights tell, is refused.
    """
    from model.checkpoint import Checkpoint, CheckpointError, save
    from model.importers.formats import import_file
    from model.importers.item_ids import read_item_ids
    from model.items import Items

    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out} is not a folder")
    found = import_file(source, weights, built(ImportOptions, given))
    if items is None:
        vocabulary = Items([{"item_id": item_id} for item_id in found.item_ids])
    else:
        vocabulary = read_item_ids(items, found.config.num_items)
    record: dict[str, object] = {"imported_from": source, "file": weights.name}
    made = Checkpoint(name or out.resolve().name, found.network(), vocabulary, record)
    save(made, out)
    _tell(made, out)


def _tell(made: "Checkpoint", out: Path) -> None:
    """What was written, and with which settings that weights do not tell."""
    config = made.config
    say(
        f"wrote {out}: {made.name}, {len(made.items)} items, {config.num_layers} layers, "
        f"{config.num_heads} heads, width {config.d_model}, window {config.window.capacity}"
    )
    say(
        f"taken as: similarity {config.similarity}, temperature {config.temperature:g}, "
        f"item scale {config.item_scale}, time buckets {_times(made)}"
    )
    say(f"{made.cacheability.exactness}:")
    for reason in made.cacheability.reasons:
        say(f"  {reason}")


def _times(made: "Checkpoint") -> str:
    times = made.config.time_bias
    if times is None:
        return "none"
    return f"{times.num_buckets} of {times.fn}(span / {times.unit_s} s) / {times.width:g}"
