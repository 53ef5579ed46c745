"""Owns `mfalcon bench lists`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.bench.options import Threads, prepare
from service.cli.data import open_interactions
from service.cli.output import Output, machine_line, print_json, print_table, progress, say, where
from service.settings import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from service.benchmark.lists import Lists

_ML_1M = DEMO_CHECKPOINT.with_name("ml-1m")


def lists(
    checkpoint: Annotated[Path, typer.Option(help="a checkpoint of this data")] = _ML_1M,
    data: Annotated[str, typer.Option(help="a file, or the name of a public set")] = "ml-1m",
    users: Annotated[int | None, typer.Option(min=1, help="how many; default: all")] = None,
    lists_of: Annotated[
        int, typer.Option("--lists", min=1, help="of them, whose candidates are scored one by one")
    ] = 50,
    candidates: Annotated[int, typer.Option(min=1, help="of each list")] = 100,
    microbatch: Annotated[int, typer.Option(min=1, help="candidates in one cached pass")] = 64,
    threads: Threads = 0,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Compare a trained checkpoint's lists with and without cached states, beside its HR@10.

    Cached: all but the newest event are in the state, candidates are scored in microbatches.
    Without: a full forward for each candidate. Exit code 1 if a logit differs by more than float32
    may, 1e-5.
    """
    from model.checkpoint import load
    from service.benchmark.lists import compare_lists
    from service.exactness import TOLERANCE

    prepare(threads)
    loaded, interactions = load(checkpoint), open_interactions(data)
    with progress() as bar:
        task = bar.add_task("users")
        found = compare_lists(
            loaded,
            interactions,
            num_users=users,
            num_lists=lists_of,
            num_candidates=candidates,
            microbatch=microbatch,
            seed=seed,
            on_user=lambda done, total: bar.update(task, completed=done, total=total),
        )
    difference = max(found.largest_retrieval_difference, found.largest_action_difference)
    if output == "json":
        facts = {"checkpoint": loaded.name, "data": Path(data).name, "tolerance": TOLERANCE}
        print_json(asdict(found) | {"speed_ratio": found.speed_ratio} | facts | where())
    else:
        _print(loaded.name, found)
    if difference > TOLERANCE:
        raise typer.Exit(1)


def _print(name: str, found: "Lists") -> None:
    from service.benchmark.lists import PROTOCOL

    ways = ("full", "cached")
    print_table(
        f"{name}, {found.num_users} users, protocol {PROTOCOL}",
        ["", "full forwards", "cached states"],
        [
            ["HR@10", *(f"{getattr(found.hr10, way):.4f}" for way in ways)],
            ["NDCG@10", *(f"{getattr(found.ndcg10, way):.4f}" for way in ways)],
            [
                f"milliseconds for a list of {found.num_candidates}",
                *(f"{1000 * getattr(found.seconds, way):.1f}" for way in ways),
            ],
        ],
    )
    say(
        f"the target has the same rank for {found.same_ranks} of {found.num_users} users\n"
        f"the same list, candidate by candidate in microbatches of {found.microbatch}, for "
        f"{found.same_lists} of {found.num_lists}\n"
        f"largest difference of a retrieval logit {found.largest_retrieval_difference:.1e}, of an "
        f"action logit {found.largest_action_difference:.1e}\n"
        f"full forwards / cached: {found.speed_ratio:.0f}\n{machine_line()}"
    )
