"""``pcgraph new``: a first spec for a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcgraph.cli.check import check_weights
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

if TYPE_CHECKING:
    from pcgraph.tracing.table import Table

SCHEMA = "spec.schema.json"


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
    """Write a first spec: a node at each change of resolution, each predicting the nodes that feed it."""
    from pcgraph.files import check_free, write_text

    screen = Screen(as_json, quiet)
    check_free(output, force=force, suffixes=(".yaml", ".yml"))
    shape = input_shape(input)
    with screen.working(f"Tracing {model}"):
        from pcgraph.errors import ModelError, SpecError
        from pcgraph.network import build
        from pcgraph.spec import parse_spec
        from pcgraph.tracing.table import format_shape, suggest_nodes, trace

        table = trace(model, shape, trust=trusted(trust), verify=not no_verify)
        nodes = suggest_nodes(table)
        text = first_spec(table, nodes, beside_spec(weights, output))
        try:  # what we write is valid
            spec = parse_spec(text, folder=output.parent)
            check_weights(spec, build(spec, trust=trust, weights=False), trust)
        except (ModelError, SpecError) as error:  # the user has not seen the text that the places are in
            raise type(error)(replace(fault, where="", path=()) for fault in error.faults) from None
    write_text(output, header(model, output) + text)
    places = [f"  {name}  {place}  {format_shape(table[place].shape)}" for name, place in nodes.items()]
    screen.result(
        {"spec": str(output), "nodes": nodes},
        *([] if quiet else ["\n".join([f"Wrote {output}, with a node at", *places])]),
    )


def first_spec(table: Table, nodes: Mapping[str, str], weights: str | None) -> str:
    """The text of a spec with these nodes; it names the values that people change first."""
    from pcgraph.tracing.table import format_shape

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
            "dynamics: {rule: predify, feedforward: 0.3, feedback: 0.3, error: 0.01, gradient: normalized}",
            "schedule: {order: synchronous, steps: 10}",
            "",
        ]
    )


def _plain(text: str) -> str:
    """Text as YAML: without quotes where it cannot be taken for something else."""
    plain = re.fullmatch(r"[A-Za-z_][\w.:/+-]*[\w]", text, flags=re.ASCII)
    words = ("true", "false", "null", "yes", "no", "on", "off", "none", "nan", "inf")
    return text if plain and text.lower() not in words else json.dumps(text)


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
