"""``pcgraph show``: the wiring of a network."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcgraph.cli.options import AsJson, Force, Quiet, SpecFile, Trust, read_spec, trusted
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pcgraph.network import PCNetwork
    from pcgraph.spec import Spec


def show(
    spec: SpecFile,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Draw it as a .svg or .png file instead."),
    ] = None,
    force: Force = False,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show who predicts whom: as a tree here, or drawn into a file.

    Loads weights only to work out 'error: auto', and only those that are on disk.
    """
    from pcgraph.files import check_free, whole_file

    screen = Screen(as_json, quiet)
    if output is not None:
        check_free(output, force=force, suffixes=(".svg", ".png"))
    given = read_spec(spec)
    with screen.working("Tracing the network"):
        from pcgraph.report.description import describe
        from pcgraph.report.tree import wiring_tree

        network = _network(given, trusted(trust))
        if output is not None:
            from pcgraph.runs.figures import save_figure

            figure = _drawing(network)
            with whole_file(output) as partial:
                save_figure(figure, partial)
    if output is None:
        screen.result(describe(network), wiring_tree(network))
    else:
        screen.result(
            {**describe(network), "drawing": str(output)}, *([] if quiet else [f"Drew {one_line(output)}"])
        )


def _network(spec: Spec, trust: bool) -> PCNetwork:
    from pcgraph.building.network import build
    from pcgraph.dynamics.gains import Predify
    from pcgraph.errors import ModelError
    from pcgraph.spec.weights import is_file_reference

    network = build(spec, trust=trust, weights=False)
    named = None if spec.backbone is None else spec.backbone.weights
    at_hand = named is None or is_file_reference(named)
    if at_hand and isinstance(network.dynamics, Predify) and network.dynamics.auto:
        with contextlib.suppress(ModelError):  # a weight file that is not there is no fault of the wiring
            return build(spec, trust=trust)
    return network


def _drawing(network: PCNetwork) -> Figure:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        from pcgraph.errors import Fault, InputError

        raise InputError(
            Fault("drawing needs matplotlib, which is not installed", hint="pip install 'pcgraph[plot]'")
        ) from None
    from pcgraph.report.wiring import wiring_figure

    return wiring_figure(network)
