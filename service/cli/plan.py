"""Owns `mfalcon plan`: replicas, Redis and latency for a described traffic."""

import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.bench.loads import EngineThreads, Seconds, engine_threads, turns_shown
from service.cli.bench.options import Rounds
from service.cli.flags import FlagError, built, flags_of
from service.cli.output import Output, complain, note, print_json, print_table, where
from service.planning.traffic import Traffic
from service.settings import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from service.planning.costs import Costs
    from service.planning.observe import Observations
    from service.planning.plan import Plan

CheckpointFolder = Annotated[Path, typer.Option(help="checkpoint folder that is measured")]


@flags_of(Traffic, "given")
def plan(
    given: dict[str, Any],
    traffic: Annotated[
        Path | None, typer.Option(help="TOML file with what the flags below say; flags win")
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="costs that --measure wrote; nothing is measured then")
    ] = None,
    measure: Annotated[
        Path | None, typer.Option(help="measure this machine, and write the costs to this file")
    ] = None,
    checkpoint: CheckpointFolder = DEMO_CHECKPOINT,
    threads: EngineThreads = 0,
    seconds: Seconds = 3.0,
    rounds: Rounds = 3,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Say how many replicas and how much Redis a traffic needs, and what latency to expect.

    Costs are measured here in a minute and a half, by a service under load on loopback, unless
    --costs names a file of them; `mfalcon bench plan` tells how far such predictions hold.
    """
    from service.planning.costs import Costs
    from service.planning.plan import make_plan

    if costs is not None and measure is not None:
        raise FlagError("--costs reads what --measure writes: give one of them")
    described = _described(given, traffic)
    if costs is not None:
        found = Costs.read(costs)
    else:
        found, _ = measured(
            described,
            checkpoint,
            shares=(),
            threads=threads,
            seconds=seconds,
            rounds=rounds,
            seed=seed,
        )
        if measure is not None:
            found.write(measure)
    made = make_plan(found, described)
    if output == "json":
        result = asdict(made) | {"traffic": described.model_dump(), "machine": found.machine}
        print_json(result)
    else:
        _print(made, found)
    if made.replicas is None:
        raise typer.Exit(1)


def _described(flags: dict[str, Any], path: Path | None) -> Traffic:
    """Flags over the TOML file over defaults.

    Raises:
        FlagError: a value or the file is wrong; the message names it.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FlagError(f"{path}: {error}") from error
    return built(Traffic, values | flags)


def measured(
    traffic: Traffic,
    checkpoint: Path,
    *,
    shares: Sequence[float],
    threads: int,
    seconds: float,
    rounds: int,
    seed: int,
) -> "tuple[Costs, Observations]":
    """The costs, and all that was seen of the service, at these shares of its most, too."""
    from service.planning.engine_costs import measure_engine
    from service.planning.fit import fitted_to_loads
    from service.planning.measure import costs_of
    from service.planning.observe import observe
    from service.planning.rig import rig

    threads = engine_threads(threads)
    try:
        with (
            turns_shown() as on_turn,
            rig(checkpoint, traffic, threads=threads, seed=seed) as running,
        ):
            passes = measure_engine(running, rounds=rounds, on_turn=on_turn)
            seen = observe(running, shares=shares, seconds=seconds, rounds=rounds, on_turn=on_turn)
            costs = costs_of(running, seen, passes, threads=threads, machine=where())
            costs = fitted_to_loads(costs, seen, on_turn=on_turn)
    except RuntimeError as error:
        complain(f"mfalcon: {error}")
        raise typer.Exit(2) from error
    return costs, seen


def _print(made: "Plan", costs: "Costs") -> None:
    traffic, expected, sources, redis = made.traffic, made.expected, made.sources, made.redis
    title = (
        f"{traffic.requests_per_s:,.0f} requests/s of {traffic.users:,} users, "
        f"{traffic.history_events} events, {traffic.candidates} candidates, "
        f"{traffic.in_time:.1%} within {traffic.budget_ms:g} ms; {costs.checkpoint}"
    )
    replicas = "none is enough" if made.replicas is None else f"{made.replicas:,}"
    cores = "-" if made.cores is None else f"{made.cores:,}"
    rows = [
        ["replicas", replicas],
        [f"cores, {costs.threads + 1} a replica", cores],
        ["requests/s of a replica", f"{expected.requests_per_s:.1f}"],
        ["p50", f"{expected.p50_ms:.1f} ms"],
        ["p99", f"{expected.p99_ms:.1f} ms"],
        ["whole and in time", f"{expected.in_time:.2%}"],
        ["refused", f"{expected.refused:.2%}"],
        ["engine busy", f"{expected.engine_busy:.0%}"],
        ["event loop busy", f"{expected.loop_busy:.0%}"],
        ["requests in a batch", f"{expected.mean_batch:.2f}"],
        ["states found in the replica", f"{sources.here:.1%}"],
        ["states fetched from Redis", f"{sources.store:.1%}"],
        ["no state", f"{sources.nowhere:.1%}"],
        ["Redis memory", _bytes(redis.memory_bytes)],
        ["states in it", f"{redis.num_states:,.0f}"],
        ["Redis receives", f"{_bytes(redis.received_bytes_per_s)}/s"],
        ["Redis sends", f"{_bytes(redis.sent_bytes_per_s)}/s"],
        ["one connection fetches", f"{_bytes(redis.connection_bytes_per_s)}/s"],
    ]
    print_table(title, ["", "expected"], rows)
    curve = [[_bytes(p.memory_bytes), f"{p.hit_ratio:.1%}"] for p in made.memory_curve]
    print_table("Redis memory and hit ratio", ["memory", "states found"], curve)
    for told in made.notes:
        note(f"note: {told}")


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"
