"""``pcgraph check``: is a spec valid, and does it fit its model and weights?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcgraph.cli.options import AsJson, Quiet, SpecFile, Trust, read_spec, trusted
from pcgraph.cli.screen import Screen

if TYPE_CHECKING:
    from pcgraph.errors import Fault
    from pcgraph.network import PCNetwork
    from pcgraph.spec import Spec


def check(spec: SpecFile, trust: Trust = False, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Check a spec: every fault with file, line and column. Needs no network and downloads nothing.

    Gains that make the states run away, or that do nothing, are warned of.

    Weights that are files are compared with the model; weights that would have to be downloaded are
    checked by name only.
    """
    screen = Screen(as_json, quiet)
    given = read_spec(spec)
    with screen.working("Checking"):
        from pcgraph.analysis.cost import step_cost
        from pcgraph.building.network import build, measured
        from pcgraph.display.text import format_count as short
        from pcgraph.dynamics.gains import Predify
        from pcgraph.report.advice import LARGE, check_gains
        from pcgraph.report.budgets import crowded
        from pcgraph.report.description import describe

        network = build(given, trust=trusted(trust), weights=False)
        check_weights(given, network, trust)
        check_classes(given)
        facts = {"ok": True, **describe(network)}
        if isinstance(network.dynamics, Predify):
            network.dynamics = measured(network)
        warned = given.located([*crowded(network), *check_gains(network)])
        parameters = {
            "backbone": _count(network.drive) if network.drive else 0,
            "predictors": _count(network.predictors),
            "starts": _count(network.starts),
        }
        facts.update(parameters=parameters, cost=step_cost(network), warnings=as_warnings(warned))
    unseen = network.drive is None and len(network.predictors) > LARGE
    kinds = [edge.kind for edge in network.graph.edges.values()]
    cost = "unknown" if facts["cost"] is None else f"{short(facts['cost'])} multiply-adds a step and image"
    counts = f"backbone {short(parameters['backbone'])}, predictors {short(parameters['predictors'])}"
    counts += f", starts {short(parameters['starts'])}" if parameters["starts"] else ""
    lines = [
        f"{spec}: OK",
        f"  nodes       {len(network.graph.nodes)}: {', '.join(network.graph.nodes)}",
        f"  edges       {kinds.count('feedforward')} feedforward, {kinds.count('feedback')} feedback",
        f"  parameters  {counts}",
        f"  cost        {cost}",
        *([f"  whole step  not looked at: more than {LARGE} predictors"] if unseen else []),
    ]
    screen.result(facts, *([] if quiet else ["\n".join(lines)]), *[f"Warning: {one}" for one in warned])


def as_warnings(faults: list[Fault]) -> list[dict[str, str]]:
    """Warnings as plain values."""
    from pcgraph.errors import join_path

    return [
        {"message": one.message, "field": join_path(one.path), "where": one.where, "hint": one.hint}
        for one in faults
    ]


def check_weights(spec: Spec, network: PCNetwork, trust: bool) -> None:
    """Compare weights that are files with what they are for.

    Raises:
        ModelError: They are missing or do not fit; at their place in the spec.
    """
    from dataclasses import replace

    from pcgraph.building.network import load_predictors
    from pcgraph.errors import ModelError
    from pcgraph.spec.weights import is_file_reference
    from pcgraph.tracing.backbone import load_backbone

    backbone = spec.backbone
    try:
        if backbone is not None and backbone.weights is not None and is_file_reference(backbone.weights):
            load_backbone(backbone, None, trust=trust, folder=spec.folder)
        if spec.weights is not None:
            load_predictors(network, spec)
    except ModelError as error:
        raise ModelError(replace(fault, where=spec.locate(fault.path)) for fault in error.faults) from None


def check_classes(spec: Spec) -> None:
    """Read the file with the names of the classes, if there is one.

    Raises:
        SpecError: It cannot be read, or holds no names of classes; at its place in the spec.
    """
    if spec.backbone is None or spec.backbone.classes is None:
        return
    from pcgraph.datasets.classes import classes_of
    from pcgraph.errors import Fault, InputError, SpecError

    try:
        classes_of(spec)
    except InputError as error:
        path = ("backbone", "classes")
        found = [
            Fault(f"'{one.where}': {one.message}", path, one.hint, spec.locate(path)) for one in error.faults
        ]
        raise SpecError(found) from None


def _count(module: object) -> int:
    from torch import nn

    assert isinstance(module, nn.Module)
    return sum(parameter.numel() for parameter in module.parameters())
