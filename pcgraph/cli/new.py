"""``pcgraph new``: a first spec for a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcgraph.cli.options import (
    AsJson,
    Force,
    InputShape,
    Model,
    NoVerify,
    Quiet,
    Trust,
    beside_spec,
    input_shape,
    trusted,
)
from pcgraph.cli.screen import Screen
from pcgraph.display.safe import one_line
from pcgraph.display.text import format_shape

if TYPE_CHECKING:
    from pcgraph.network import PCNetwork
    from pcgraph.tracing.table import Table

SCHEMA = "spec.schema.json"
FEEDBACK = (0.3, 0.1, 0.03, 0.01, 0.003, 0.0)
"""lambda of a first spec: the first with which no state grows too far."""
REHEARSED, GROWN = 20, 1.5
"""In so many steps no state may grow to more than so many times its first norm."""


def new(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="SPEC", help="The .yaml file to write.")],
    input: InputShape = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="DEFAULT or another name of the model's library, or a file. Left out: random weights.",
        ),
    ] = None,
    force: Force = False,
    trust: Trust = False,
    no_verify: NoVerify = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a first spec: a node at each change of resolution, each predicting the nodes that feed it.

    Its error gains are 'auto'. Where the weights are on disk (or random), a few steps are made, and the
    'feedback' is lowered until untrained feedback does not make the states run away.
    """
    from pcgraph.files import check_free, write_text

    screen = Screen(as_json, quiet)
    check_free(output, force=force, suffixes=(".yaml", ".yml"))
    shape = input_shape(input)
    with screen.working(f"Tracing {model}"):
        from pcgraph.errors import ModelError, SpecError
        from pcgraph.tracing.suggesting import suggest_nodes
        from pcgraph.tracing.table import trace

        table = trace(model, shape, trust=trusted(trust), verify=not no_verify)
        nodes = suggest_nodes(table)
        try:  # what we write is valid
            text, feedback = holding_spec(table, nodes, beside_spec(weights, output), output.parent, trust)
        except (ModelError, SpecError) as error:  # the user has not seen the text that the places are in
            raise type(error)(replace(fault, where="", path=()) for fault in error.faults) from None
    write_text(output, header(model, output) + text)
    places = [f"  {name}  {place}  {format_shape(table[place].shape)}" for name, place in nodes.items()]
    screen.remark(*([lowered(feedback)] if feedback != FEEDBACK[0] else []))
    screen.result(
        {"spec": str(output), "nodes": nodes},
        *([] if quiet else ["\n".join([f"Wrote {one_line(output)}, with a node at", *places])]),
    )


def lowered(feedback: float) -> str:
    """What people are told of a lambda below the first."""
    if feedback:
        return f"With 'feedback: {FEEDBACK[0]:g}' untrained feedback would run away; it is {feedback:g}."
    return (
        f"Untrained feedback would run away with 'feedback: {FEEDBACK[-2]:g}' and more; it is 0, so "
        "predictions move nothing. Load trained weights, or train the feedback and raise it."
    )


def holding_spec(
    table: Table,
    nodes: Mapping[str, str],
    weights: str | None,
    folder: Path = Path(),
    trust: bool = False,
) -> tuple[str, float]:
    """The text of a first spec that can be built and whose states do not run away, and its lambda.

    `error: auto` sees to it that errors do not make them. But untrained predictions can, around a loop with
    the backbone: some steps from a standard normal image tell, if the weights are there.
    """
    from pcgraph.building.network import build
    from pcgraph.spec import parse_spec
    from pcgraph.spec.weights import is_file_reference

    text = first_spec(table, nodes, weights)
    if weights is not None and not is_file_reference(weights):
        build(parse_spec(text, folder=folder), trust=trust, weights=False)
        return text, FEEDBACK[0]
    feedback = hold(build(parse_spec(text, folder=folder), trust=trust))
    return first_spec(table, nodes, weights, feedback), feedback


def hold(network: PCNetwork) -> float:
    """Lower the lambda of a network of rule `predify` until no state grows too far; what it is then."""
    import torch

    from pcgraph.analysis.stability import stays_within
    from pcgraph.dynamics.gains import Predify
    from pcgraph.scheduler import Scheduler

    rule = network.dynamics
    assert isinstance(rule, Predify)
    shape = network.graph.nodes[network.graph.receiver].shape
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    for feedback in FEEDBACK:
        dynamics = rule.spec.model_copy(update={"feedback": feedback})
        network.dynamics = Predify(rule.graph, dynamics, rule.reach, rule.carried)
        if stays_within(Scheduler(network), image, REHEARSED, GROWN):
            break
    return feedback


def first_spec(
    table: Table, nodes: Mapping[str, str], weights: str | None, feedback: float = FEEDBACK[0]
) -> str:
    """The text of a spec with these nodes; it names the values that people change first."""
    name = re.sub(r"[/\\\s]", "-", table.model.rpartition(":")[2])
    loaded = f", weights: {_plain(weights)}" if weights else ""
    shape = ", ".join(map(str, table.input_shape))
    places = [f"  {node}: {_plain(place)}" for node, place in nodes.items()]
    wide = max(map(len, places))
    shapes = [format_shape(table[place].shape) for place in nodes.values()]
    return "\n".join(
        [
            f"name: {_plain(name)}",
            f"backbone: {{model: {_plain(table.model)}{loaded}, input: [{shape}]}}",
            "nodes:",
            *[f"{place:<{wide}}  # {size}" for place, size in zip(places, shapes, strict=True)],
            "feedback: chain  # each node predicts the nodes that feed it",
            f"dynamics: {{rule: predify, feedforward: 0.3, feedback: {feedback:g}, error: auto, "
            "gradient: normalized}",
            "schedule: {order: synchronous, steps: 10}",
            "",
        ]
    )


def _plain(text: str) -> str:
    """Text as YAML: without quotes where it cannot be taken for something else."""
    plain = re.fullmatch(r"[A-Za-z_][\w.:/+-]*[\w]", text, flags=re.ASCII)
    words = ("true", "false", "null", "yes", "no", "on", "off", "none", "nan", "inf")
    return text if plain and text.lower() not in words else json.dumps(text, ensure_ascii=False)


def header(model: str, output: Path) -> str:
    """The comment lines at the head of a first spec."""
    trust = " --trust" if model.startswith("python:") else ""
    lines = [
        f"# A first spec for {model}, to be changed as you like.",
        f"# Other places for nodes: pcgraph trace {model}{trust}",
        f"# After a change: pcgraph check {output.name}{trust}, pcgraph show {output.name}{trust}",
    ]
    if (output.parent / SCHEMA).is_file():
        lines.insert(0, f"# yaml-language-server: $schema={SCHEMA}")
    else:
        lines.append(f"# For help in your editor: pcgraph schema -o {SCHEMA}, and as the first line here")
        lines.append(f"#   yaml-language-server: $schema={SCHEMA}")
    return "\n".join(lines) + "\n"
