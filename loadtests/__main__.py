"""`python -m loadtests`: load tests of a running service, and what is made of their records.

Owns the list of subcommands, each in a file of its own.
"""

import signal
import sys

import typer

from loadtests.cli.faults import faults
from loadtests.cli.gate import gate
from loadtests.cli.locust import locust
from loadtests.cli.open import open_
from loadtests.cli.replay import replay
from loadtests.cli.report import report
from loadtests.cli.soak import soak
from loadtests.cli.suite import suite

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(locust)
app.command()(replay)
app.command()(gate)
app.command("open")(open_)
app.command()(faults)
app.command()(soak)
app.command()(report)
app.command()(suite)

if __name__ == "__main__":
    # As by Ctrl-C: with the servers that were started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    app()
