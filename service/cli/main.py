"""Owns the `mfalcon` program: its commands, and turning known failures into exit codes.

Exit codes: 0 fine, 1 the command's own check failed, 2 a wrong setting, flag or input.
"""

import sys

import typer
from rich.console import Console

from service.cli.bench import bench
from service.cli.evaluate import evaluate
from service.cli.import_checkpoint import import_checkpoint
from service.cli.info import info
from service.cli.serve import serve
from service.cli.train import train
from service.cli.verify import verify

app = typer.Typer(
    name="mfalcon",
    help="Serve HSTU recommenders: cached user state, exact answers, a latency budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (serve, train, evaluate, info, verify, bench):
    app.command()(command)
app.command("import")(import_checkpoint)


def main() -> None:
    """Run the program; a known failure is one line on standard error and exit code 2."""
    from model.checkpoint import CheckpointError
    from service.settings import SettingsError

    try:
        app()
    except (CheckpointError, SettingsError) as error:
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(f"mfalcon: {error}", style="red")
        sys.exit(2)
