"""``pcgraph import predify``: configs and checkpoints of the published Predify package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcgraph.cli.options import AsJson, Force, Quiet, Trust, beside_spec, trusted
from pcgraph.cli.screen import Screen

if TYPE_CHECKING:
    from pcgraph.importers.predify_weights import Checkpoint
    from pcgraph.spec import Spec

import_app = typer.Typer(no_args_is_help=True, help="Read what other packages wrote.")


@import_app.callback()
def _group() -> None:
    """Read what other packages wrote."""


@import_app.command()
def predify(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML config of the Predify package.")],
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="torchvision:NAME, timm:NAME or python:PACKAGE.MODULE:NAME."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="SPEC", help="The .yaml file to write.")],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="'DIR/*pc*.pth'",
            help="The predictors' checkpoints, one a node: '...pc1.pth' is of the node that predicts the "
            "image. They are gathered in one .safetensors file beside the spec.",
        ),
    ] = None,
    model_weights: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The backbone's weights: DEFAULT, another name, or a file."),
    ] = None,
    force: Force = False,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn a config of the published Predify package, and its trained feedback, into a spec.

    Predictor strings are taken apart, never evaluated; of checkpoints only tensors are read.
    """
    from pcgraph.files import check_free, whole_file, write_text
    from pcgraph.importers.predify_spec import read_predify
    from pcgraph.spec import to_yaml

    screen = Screen(as_json, quiet)
    check_free(output, force=force, suffixes=(".yaml", ".yml"))
    beside = output.with_suffix(".safetensors")
    if weights is not None:
        check_free(beside, force=force)
    spec = read_predify(config, model, beside_spec(model_weights, output))
    with screen.working("Importing"):
        from pcgraph.building.network import build
        from pcgraph.importers.predify_weights import fill, find_checkpoints, read_checkpoint

        network = build(spec, trust=trusted(trust), weights=False)  # what we write fits the model
        written = [output]
        if weights is not None:
            edges = [edge.name for edge in network.graph.edges.values() if edge.name in network.predictors]
            checkpoints = [read_checkpoint(path) for path in find_checkpoints(weights, len(edges))]
            fill(network, edges, checkpoints)
            with whole_file(beside) as partial:
                network.save_weights(partial)
            written.append(beside)
            spec = with_weights(spec, checkpoints, beside.name)
    write_text(output, f"# From {config.name} of the Predify package.\n{to_yaml(spec)}")
    facts = {"spec": str(output), "weights": None if weights is None else str(beside), "nodes": [*spec.nodes]}
    screen.result(facts, *([] if quiet else [f"Wrote {' and '.join(map(str, written))}"]))


def with_weights(spec: Spec, checkpoints: Sequence[Checkpoint], weights: str) -> Spec:
    """The spec that names its weights, with the reach of each edge whose checkpoint holds it."""
    from pcgraph.spec import Edge

    feedback = []
    for edge, checkpoint in zip(spec.feedback, checkpoints, strict=True):
        assert isinstance(edge, Edge)  # the importer writes every edge out
        known = {} if checkpoint.reach is None else {"reach": checkpoint.reach}
        feedback.append(edge.model_copy(update=known))
    return spec.model_copy(update={"weights": weights, "feedback": feedback})
