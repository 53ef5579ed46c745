"""Owns `mfalcon bench rectools`: RecTools' `recommend` against the engine and the service."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from service.cli.bench.loads import EngineThreads, Store, turns_shown
from service.cli.bench.options import Rounds, prepare
from service.cli.output import Output, machine_line, print_json, print_table, say, where

if TYPE_CHECKING:
    from service.benchmark.peers.rectools_contest import RecToolsContest

_BUDGET_MS = 1000.0
_LABELS = {
    "rectools": "RecTools recommend",
    "engine": "mfalcon's engine",
    "http": "mfalcon over HTTP",
}


def rectools(
    threads: EngineThreads = 1,
    store: Store = "memory",
    rounds: Rounds = 5,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure retrieval for one returning user against RecTools 0.19 with the same weights.

    A model of the size of `ml-1m` ranks 1000 items for a user with one new event: as RecTools makes
    it, with positions counted from the newest event, so that nothing can be reused; and without
    those positions. RecTools has its data set prepared. Needs the environment of `make parity`.
    """
    from service.benchmark.load.setting import Setting
    from service.benchmark.peers.rectools_contest import measure_rectools
    from service.benchmark.shapes import SHAPES

    prepare(threads)
    setting = Setting(
        threads=threads,
        num_users=1,
        budget_ms=_BUDGET_MS,
        store=store,
        turn_s=0.0,
        rounds=rounds,
        seed=seed,
    )
    try:
        with turns_shown() as on_turn:
            found = [
                measure_rectools(SHAPES["ml-1m"], setting, positions=positions, on_turn=on_turn)
                for positions in (True, False)
            ]
    except RuntimeError as error:
        raise typer.Exit(2) from error
    if output == "json":
        print_json({"contests": [asdict(each) for each in found]} | where())
        return
    for each in found:
        _print(each)
    say(machine_line())


def _print(found: "RecToolsContest") -> None:
    form = "with absolute positions" if found.positions else "without absolute positions"
    print_table(
        f"ml-1m, {form} ({found.cacheability}): 1000 items for one user after one new event; "
        f"medians of {found.rounds} interleaved rounds",
        ["", "ms", "RecTools over it"],
        [
            [label, f"{found.median_ms[name]:.2f}", _ratio(found, name)]
            for name, label in _LABELS.items()
        ],
    )
    same = "the same items" if found.same_items else "NOT the same items"
    say(f"{same}, cosines within {found.max_abs_diff:.1e}\n")


def _ratio(found: "RecToolsContest", name: str) -> str:
    ratio = found.ratios.get(f"rectools_over_{name}")
    return "" if ratio is None else f"{ratio:.1f}x"
