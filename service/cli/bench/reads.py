"""Owns `mfalcon bench reads`: running it and printing it."""

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cache import StoreUnavailable
from cache.redis.url import Topology, parse
from service.cli.bench.options import Rounds, Threads, prepare
from service.cli.opened_store import StoreAway
from service.cli.output import Output, machine_line, print_json, print_table, progress, say, where
from service.settings import SettingsError

if TYPE_CHECKING:
    from service.benchmark.reads import Reads, Taken


def reads(
    store: Annotated[
        str | None, typer.Option(help="URL of one Redis or Valkey; default: an embedded one")
    ] = None,
    rounds: Rounds = 7,
    threads: Threads = 0,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure reading stored states against redis-py's asyncio client.

    States of 0.5, 2 and 8 MB of the model `ml-1m`, float32; 1, 4 and 16 at once; the values alone,
    and up to tensors. The third contender is redis-py's client with the parser of the first.
    """
    prepare(threads)
    from service.benchmark.reads import CONCURRENCIES, SIZES_BYTES, measure_reads
    from service.benchmark.shapes import SHAPES
    from service.embedded import EmbeddedValkey

    if store:
        _require_one_server(store)
    with ExitStack() as stack:
        url = store or stack.enter_context(EmbeddedValkey(1 << 30)).url
        bar = stack.enter_context(progress())
        task = bar.add_task("bench", total=len(SIZES_BYTES) * len(CONCURRENCIES))
        try:
            found = measure_reads(
                SHAPES["ml-1m"],
                url,
                sizes_bytes=SIZES_BYTES,
                concurrencies=CONCURRENCIES,
                rounds=rounds,
                seed=seed,
                on_point=lambda size, concurrency: bar.update(
                    task, advance=1, description=f"{_mb(size)}, {concurrency} at once"
                ),
            )
        except StoreUnavailable as error:
            raise StoreAway(str(error)) from None
    if output == "json":
        print_json(asdict(found) | where())
        return
    _print(found)
    say(f"{found.loop}, redis-py {found.client}\n{machine_line()}")


def _require_one_server(url: str) -> None:
    """Redis-py's client knows no other."""
    try:
        topology = parse(url, {}, max_connections=1, wait_s=1.0).topology
    except ValueError as error:
        raise SettingsError(f"--store: {error}") from None
    if topology is not Topology.ONE:
        raise SettingsError("--store: give the URL of one server, not of sentinels or a cluster")


def _print(found: "Reads") -> None:
    from service.benchmark.reads import CLIENT, OURS, PARSER

    def cells(taken: "Taken") -> list[str]:
        return [
            *(f"{taken.ms[name]:.2f}" for name in (CLIENT, PARSER, OURS)),
            f"{taken.of_client[OURS]:.1f}x",
            *(f"{taken.stall_ms[name]:.1f}" for name in (CLIENT, OURS)),
        ]

    for title, part in (("the values alone", "read"), ("up to tensors", "fetch")):
        print_table(
            f"{title}: milliseconds until all that are read at once are there, and the event "
            f"loop's longest stall; the fastest of each turn, medians of {found.rounds} "
            "interleaved rounds",
            ["bytes", "at once", CLIENT, PARSER, OURS, "faster", f"stall: {CLIENT}", OURS],
            [
                [_mb(point.value_bytes), str(point.concurrency), *cells(getattr(point, part))]
                for point in found.points
            ],
        )


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):.1f} MB"
