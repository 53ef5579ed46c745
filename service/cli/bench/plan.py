"""Owns `mfalcon bench plan`: what `mfalcon plan` predicts against what the service does."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.bench.loads import EngineThreads, Seconds
from service.cli.bench.options import Rounds
from service.cli.output import Output, machine_line, print_json, print_table, say, where
from service.cli.plan import CheckpointFolder, measured
from service.planning.traffic import Traffic
from service.settings import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from service.planning.check import Checked


def planned(
    checkpoint: CheckpointFolder = DEMO_CHECKPOINT,
    history_events: Annotated[int, typer.Option(min=2, help="events in a user's window")] = 200,
    candidates: Annotated[int, typer.Option(min=1, help="items to be scored")] = 500,
    threads: EngineThreads = 0,
    seconds: Seconds = 4.0,
    rounds: Rounds = 3,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure costs as `mfalcon plan` does, predict two other rates, and measure those.

    All loads take turns. Requests come at random times, the same in the simulation. Ratios are
    predicted over measured.
    """
    from service.planning.check import SHARES, checked

    costs, seen = measured(
        Traffic(history_events=history_events, candidates=candidates),
        checkpoint,
        shares=SHARES,
        threads=threads,
        seconds=seconds,
        rounds=rounds,
        seed=seed,
    )
    found = [checked(costs, share, loads) for share, loads in seen.others.items()]
    if output == "json":
        rates = [asdict(each) | _ratios(each) for each in found]
        fitted = [asdict(each) for each in costs.factors]
        facts = {"rates": rates, "fitted": fitted, "loads_left_out": seen.num_starved}
        print_json(facts | where())
        return
    rows = [
        [f"{each.offered_per_s:.0f}/s: {one.name}", *_cells(one.predicted, one.measured, one.ratio)]
        for each in found
        for one in each.figures
    ]
    print_table(
        f"{costs.checkpoint}: {costs.num_events} events, {costs.num_candidates} candidates; at "
        + " and ".join(f"{each.of_peak:.0%}" for each in found)
        + f" of the {costs.peak_per_s:.0f} requests/s that waiting clients are answered",
        ["", "predicted", "measured", "ratio"],
        rows,
    )
    kept = max(each.waited_for_cores for each in found)
    say(
        f"the event loop was kept waiting for a core {kept:.2f} s for each second it ran, "
        f"{costs.waited_for_cores:.2f} in the fit; {seen.num_starved} loads are left out, in which "
        f"other programs had the cores\n{machine_line()}"
    )


def _ratios(found: "Checked") -> dict[str, dict[str, float]]:
    return {"ratios": {one.name: one.ratio for one in found.figures}}


def _cells(predicted: float, measured: float, ratio: float) -> list[str]:
    return [f"{predicted:.1f}", f"{measured:.1f}", f"{ratio:.2f}"]
