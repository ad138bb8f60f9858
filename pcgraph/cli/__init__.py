"""The command ``pcgraph``: one file a command.

Nothing heavy is imported before a command runs, so that ``pcgraph --help`` answers at once.
"""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from pcgraph.cli.analyse import analyse
from pcgraph.cli.cache import cache
from pcgraph.cli.check import check
from pcgraph.cli.commands import INTERRUPTED, Commands
from pcgraph.cli.demo import demo
from pcgraph.cli.evaluate import evaluate
from pcgraph.cli.import_predify import import_app
from pcgraph.cli.new import new
from pcgraph.cli.process import prepare
from pcgraph.cli.query import query
from pcgraph.cli.report import report
from pcgraph.cli.run import run
from pcgraph.cli.schema import schema
from pcgraph.cli.show import show
from pcgraph.cli.study import study
from pcgraph.cli.trace import trace
from pcgraph.cli.train import train
from pcgraph.cli.tune import tune

app = typer.Typer(
    cls=Commands,
    name="pcgraph",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Predictive-coding dynamics on the graph of any PyTorch model.",
    epilog="Faults go to standard error; with --json as its last line, in JSON. "
    "Exit status: 0, or 2 for a fault that you can mend.",
)


def _version(asked: bool) -> None:
    if asked:
        from pcgraph import __version__

        typer.echo(f"pcgraph {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Predictive-coding dynamics on the graph of any PyTorch model."""


for _command in (
    *(trace, new, check, show, run, query, train, tune, evaluate, analyse, study, report),
    *(schema, cache, demo),
):
    app.command()(_command)
app.add_typer(import_app, name="import")


def main() -> None:
    """Run the command line."""
    try:
        prepare()
        app(prog_name="pcgraph")
    except KeyboardInterrupt:  # before the command began, or when it had ended
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()  # else Python looks through all that torch made for unused objects, for a second, to end
