"""Owns `mfalcon import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint


def import_checkpoint(
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
    heads: Annotated[
        int | None, typer.Option(min=1, help="attention heads; needed for meta and rectools")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            min=2, help="longest history; genrec: 50, rectools: needed if it has no positions"
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="logits are divided by it; meta and rectools: 0.05, rechub: 1"),
    ] = None,
    similarity: Annotated[
        Literal["cosine", "dot"] | None, typer.Option(help="rectools: cosine, rechub: dot")
    ] = None,
    item_scale: Annotated[
        Literal["none", "sqrt_d"] | None,
        typer.Option(help="of items at the input; rectools: sqrt_d, rechub: none"),
    ] = None,
    time_fn: Annotated[
        Literal["log", "sqrt"] | None, typer.Option(help="of rechub's time buckets: sqrt")
    ] = None,
    time_unit: Annotated[
        int | None, typer.Option(min=1, help="seconds in rechub's unit of time: 60")
    ] = None,
    time_width: Annotated[
        float | None, typer.Option(min=0, help="rechub's time_bucket_divisor: 1")
    ] = None,
) -> None:
    """Make a checkpoint of another implementation's weights; its code is not run.

    Options that are left out have the source's own defaults. One that the source has no use for,
    because its weights tell, is refused.
    """
    from model.checkpoint import Checkpoint, CheckpointError, save
    from model.importers.formats import import_file
    from model.importers.imported import ImportOptions
    from model.importers.item_ids import read_item_ids
    from model.importers.weights import ImportFailed
    from model.items import Items

    options = ImportOptions(
        num_heads=heads,
        max_length=length,
        temperature=temperature,
        similarity=similarity,
        item_scale=item_scale,
        time_fn=time_fn,
        time_unit_s=time_unit,
        time_width=time_width,
    )
    try:
        if out.exists() and not out.is_dir():
            raise CheckpointError(f"{out} is not a folder")
        found = import_file(source, weights, options)
        if items is None:
            vocabulary = Items([{"item_id": item_id} for item_id in found.item_ids])
        else:
            vocabulary = read_item_ids(items, found.config.num_items)
        record: dict[str, object] = {"imported_from": source, "file": weights.name}
        made = Checkpoint(name or out.resolve().name, found.network(), vocabulary, record)
        save(made, out)
    except (ImportFailed, CheckpointError, OSError) as error:
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(f"mfalcon: {error}", style="red")
        raise typer.Exit(2) from error
    _tell(made, out)


def _tell(made: "Checkpoint", out: Path) -> None:
    """What was written, and with which settings that weights do not tell."""
    config, console = made.config, Console(highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"wrote {out}: {made.name}, {len(made.items)} items, {config.num_layers} layers, "
        f"{config.num_heads} heads, width {config.d_model}, window {config.window.capacity}"
    )
    console.print(
        f"taken as: similarity {config.similarity}, temperature {config.temperature:g}, "
        f"item scale {config.item_scale}, time buckets {_times(made)}"
    )
    console.print(f"{made.cacheability.exactness}:")
    for reason in made.cacheability.reasons:
        console.print(f"  {reason}")


def _times(made: "Checkpoint") -> str:
    times = made.config.time_bias
    if times is None:
        return "none"
    return f"{times.num_buckets} of {times.fn}(span / {times.unit_s} s) / {times.width:g}"
