"""Owns `mfalcon bench --reads`: running it and printing it."""

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from cache import StoreUnavailable
from cache.redis.url import Topology, parse
from service.cli.opened_store import StoreAway
from service.cli.output import print_json, print_table, progress, say, where
from service.settings import SettingsError

if TYPE_CHECKING:
    from service.benchmark.reads import Reads, Taken


def bench_reads(*, store: str | None, rounds: int, threads: int, seed: int, output: str) -> None:
    """Against an embedded Valkey, or the single server that `store` is the URL of."""
    import torch

    from model.allocator import keep_freed_memory
    from service.benchmark.reads import CONCURRENCIES, SIZES_BYTES, measure_reads
    from service.benchmark.shapes import STATE_SHAPES
    from service.embedded import EmbeddedValkey

    if store:
        _require_one_server(store)
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    shape = next(shape for shape in STATE_SHAPES if shape.name == "ml-1m")
    with ExitStack() as stack:
        url = store or stack.enter_context(EmbeddedValkey(1 << 30)).url
        bar = stack.enter_context(progress())
        task = bar.add_task("bench", total=len(SIZES_BYTES) * len(CONCURRENCIES))
        try:
            found = measure_reads(
                shape,
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
    machine = where()
    if output == "json":
        print_json(asdict(found) | machine)
        return
    _print(found)
    say(
        f"{machine['machine']}, {found.loop}, redis-py {found.client}, torch {machine['torch']}, "
        f"commit {machine['commit']}"
    )


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
