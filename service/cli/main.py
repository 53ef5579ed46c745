"""Owns the `mfalcon` program: its commands, and turning known failures into exit codes.

Exit codes: 0 fine, 1 the command's own check failed, 2 a wrong setting, flag or input, 143 ended by
SIGTERM.
"""

import functools
import signal
from typing import Any, NoReturn

import typer

from model.errors import InputError
from service.cli import cache
from service.cli.ablate import ablate
from service.cli.bench.engine import engine
from service.cli.bench.lists import lists
from service.cli.bench.overload import overload
from service.cli.bench.plan import planned
from service.cli.bench.reads import reads
from service.cli.bench.recompute import recompute
from service.cli.bench.rectools import rectools
from service.cli.bench.service import serving
from service.cli.bench.slate import slate
from service.cli.bench.state import state
from service.cli.bench.training import training
from service.cli.cache_stats import stats
from service.cli.calibrate import calibrate
from service.cli.evaluate import evaluate
from service.cli.evaluate_actions import evaluate_actions
from service.cli.flags import Command
from service.cli.import_checkpoint import import_checkpoint
from service.cli.info import info
from service.cli.output import complain
from service.cli.plan import plan
from service.cli.reload import reload
from service.cli.serve import serve
from service.cli.train import train
from service.cli.verify import verify
from service.cli.warm import warm


def _reported(command: Command) -> Command:
    """The command; a known failure of it is a line on standard error and exit code 2."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (InputError, OSError) as error:
            complain(f"mfalcon: {error}")
            raise typer.Exit(2) from error

    return run


app = typer.Typer(
    name="mfalcon",
    help="Serve HSTU recommenders: cached user state, exact answers, a latency budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    serve,
    train,
    ablate,
    calibrate,
    evaluate,
    evaluate_actions,
    info,
    verify,
    warm,
    reload,
    plan,
):
    app.command()(_reported(command))
app.command("import")(_reported(import_checkpoint))

cache_app = typer.Typer(no_args_is_help=True, help="Look into a Redis store, or forget a user.")
for command in (stats, cache.ls, cache.get, cache.rm):
    cache_app.command()(_reported(command))
app.add_typer(cache_app, name="cache")

bench_app = typer.Typer(no_args_is_help=True, help="Measure: medians of interleaved runs.")
for command in (engine, lists, overload, reads, recompute, rectools, slate, state, training):
    bench_app.command()(_reported(command))
bench_app.command("service")(_reported(serving))
bench_app.command("plan")(_reported(planned))
app.add_typer(bench_app, name="bench")


def main() -> None:
    """Run the program."""
    signal.signal(signal.SIGTERM, _end)
    app()


def _end(number: int, _: object) -> NoReturn:
    """As by Ctrl-C: with whatever the command started, and has to remove. A service that takes
    requests ends in another way (`service.server`)."""
    raise SystemExit(128 + number)
