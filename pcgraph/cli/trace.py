"""``pcgraph trace``: the places of a model where a state can live."""

from __future__ import annotations

from pcgraph.cli.options import AsJson, InputShape, Model, NoVerify, Quiet, Trust, input_shape, trusted
from pcgraph.cli.screen import Screen


def trace(
    model: Model,
    input: InputShape = None,
    trust: Trust = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the places of a model where a node can be put: name, operation, shape and cost."""
    screen = Screen(as_json, quiet)
    shape = input_shape(input)
    with screen.working(f"Tracing {model}"):
        from pcgraph.tracing.table import trace as trace_model

        table = trace_model(model, shape, trust=trusted(trust), verify=not no_verify)
    screen.result(table.to_dict(), table)
