"""pydantic's errors in our own words: what was given, what was expected, and a close match."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pcgraph.errors import Fault, FieldPath, closest
from pcgraph.spec.backbone import Backbone, Preprocess
from pcgraph.spec.dynamics import Decay, EnergyDynamics, NodeGains, NodeRate, PredifyDynamics, Sharing
from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import Skip
from pcgraph.spec.mask import Mask
from pcgraph.spec.model import Model
from pcgraph.spec.node import Node
from pcgraph.spec.schedule import Schedule
from pcgraph.spec.schema import Spec
from pcgraph.spec.source import has, show
from pcgraph.spec.start import Start
from pcgraph.spec.topology import Tie, Topology
from pcgraph.spec.training import Augmentation, LearningRate, Loss, Optimizer, Train, Tune, TuningNoise
from pcgraph.spec.weights import Checkpoint, PredictorFile

_HOMES: tuple[tuple[type[Model], str], ...] = (
    (Spec, "at the top level"),
    (Backbone, "under 'backbone'"),
    (Preprocess, "under 'backbone.preprocess'"),
    (Checkpoint, "under 'backbone.weights'"),
    (Schedule, "under 'schedule'"),
    (PredifyDynamics, "under 'dynamics', with rule 'predify'"),
    (Decay, "under 'dynamics.decay', with rule 'energy'"),
    (EnergyDynamics, "under 'dynamics', with rule 'energy'"),
    (Edge, "to an edge"),
    (Node, "to a node"),
    (Topology, "under 'topology'"),
    (Tie, "under 'topology.ties'"),
    (Mask, "under 'mask'"),
    (Skip, "to a pattern of its own, {skip: 2}"),
    (Train, "under 'train'"),
    (Optimizer, "under 'train.optimizer'"),
    (LearningRate, "under 'train.schedule'"),
    (Augmentation, "under 'train.augment'"),
    (Loss, "under 'train.loss'"),
)
_OTHER_NAMES = {
    "alpha": "error",
    "beta": "feedforward",
    "from": "source",
    "lambda": "feedback",
    "layers": "predictor",
    "learning_rate": "rate",
    "lr": "rate",
    "pc": "error",
    "to": "target",
}


def translate(error: ValidationError, data: dict[str, Any]) -> list[Fault]:
    """The faults of ``data``, which pydantic refused with ``error``; without places."""
    details = error.errors(include_url=False)
    faults: list[Fault] = []
    misspelt = {
        (_field_path(detail["loc"], data)[:-1], match)
        for detail in details
        if detail["type"] == "extra_forbidden"
        for match in re.findall(r"'([^']*)'", _unknown_field(detail, data).hint)
    }
    for detail in details:
        path = _field_path(detail["loc"], data)
        if detail["type"] == "too_short" and detail["input"]:
            continue  # its items are faulty, and were not counted
        if detail["type"] == "faults":
            faults += [Fault(message, path + tail, hint) for tail, message, hint in detail["ctx"]["faults"]]
        elif detail["type"] == "extra_forbidden":
            faults.append(_unknown_field(detail, data))
        elif detail["type"] != "missing" or (path[:-1], path[-1]) not in misspelt:
            faults.append(_fault(detail, path))
    return faults


def _field_path(loc: tuple[int | str, ...], data: Any) -> FieldPath:
    """Where pydantic's location is in what the user wrote.

    That is without the parts that only the models have: short forms, and the arms of unions.
    """
    path: FieldPath = ()
    for index, part in enumerate(loc):
        if has(data, part):
            data = data[part]
        elif index < len(loc) - 1 or not isinstance(data, dict) or str(part)[:1] in ("<", "["):
            continue
        path = (*path, part)
    return path


def _model_at(path: FieldPath, loc: tuple[int | str, ...]) -> type[Model]:
    """The model that a mapping is read as."""
    match path:
        case ("backbone",):
            return Backbone
        case ("backbone", "preprocess"):
            return Preprocess
        case ("backbone", "weights"):
            return Checkpoint
        case ("weights",):
            return PredictorFile
        case ("nodes", _):
            return Node
        case ("schedule",):
            return Schedule
        case ("dynamics", "share"):
            return Sharing
        case ("dynamics", "decay"):
            return Decay
        case ("dynamics",):
            return EnergyDynamics if "<energy>" in loc else PredifyDynamics
        case ("dynamics", "nodes", _):
            return NodeRate if "<energy>" in loc else NodeGains
        case ("topology",):
            return Topology
        case ("topology", "ties", _):
            return Tie
        case (*_, "mask"):
            return Mask
        case ("train",):
            return Train
        case ("tune",):
            return Tune
        case ("tune", "noise"):
            return TuningNoise
        case ("train" | "tune", "optimizer"):
            return Optimizer
        case ("train" | "tune", "schedule"):
            return LearningRate
        case ("train" | "tune", "augment"):
            return Augmentation
        case ("train", "loss"):
            return Loss
        case ("start", _):
            return Start
        case ("edges" | "feedback", *_):
            return Skip if "<skip>" in loc else Edge
    return Spec


def _unknown_field(detail: ErrorDetails, data: Any) -> Fault:
    path = _field_path(detail["loc"], data)
    name = str(path[-1])
    model = _model_at(path[:-1], detail["loc"])
    message = f"unknown field '{name}'"
    if _OTHER_NAMES.get(name) in model.model_fields:
        return Fault(message, path, f"Did you mean '{_OTHER_NAMES[name]}'?")
    near = closest(name, model.model_fields)
    if near.startswith("Did"):
        return Fault(message, path, near)
    homes = {field: place for other, place in reversed(_HOMES) for field in other.model_fields}
    if name in homes:
        return Fault(message, path, f"It belongs {homes[name]}.")
    match = get_close_matches(name, homes, n=1, cutoff=0.75)
    return Fault(message, path, f"Did you mean '{match[0]}', {homes[match[0]]}?" if match else near)


def _fault(detail: ErrorDetails, path: FieldPath) -> Fault:
    given = detail["input"]
    context = detail.get("ctx", {})
    kind = detail["type"]
    match kind:
        case "fault":
            return Fault(context["message"], path, context["hint"])
        case "missing":
            return Fault("missing", path, f"Add '{path[-1]}: ...'.")
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            message = f"expected {context['expected']}, got {show(given)}"
            near = closest(str(given), choices)
            return Fault(message, path, near if near.startswith("Did") else "")
        case "too_short":
            return Fault(f"expected at least one, got {show(given)}", path)
        case "string_too_short":
            return Fault("expected text, got ''", path)
        case "finite_number":
            return Fault(f"expected a finite number, got {show(given)}", path)
    expected = _EXPECTED.get(kind)
    if expected is None:
        return Fault(f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, got {show(given)}", path)
    hint = _type_hint(kind, given, path)
    return Fault(f"expected {expected.format(**context)}, got {show(given)}", path, hint)


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}


def _type_hint(kind: str, given: Any, path: FieldPath) -> str:
    quoted = isinstance(given, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", given.strip())
    if kind in ("int_type", "float_type") and quoted:
        return "Leave out the quotes."
    match kind, given, path:
        case "string_type", list(), (*_, "target"):
            return "An edge has one target."
        case "string_type", bool() | int() | float(), (*_, "name" | "extends" | "weights" | "bundle"):
            return "Put it in quotes."
        case "list_type", dict(), _:
            return "Begin each item with '- '."
        case "tuple_type", int(), _ if not isinstance(given, bool):
            return f"Write [{given}]."
        case "model_type" | "model_attributes_type", str(), ("backbone",):
            return f"Write {{model: {given}}}."
        case "model_type" | "model_attributes_type", str(), ("edges" | "start", _) if given.count("->") == 1:
            source, target = given.split("->")
            return f"Write {{source: {source.strip()}, target: {target.strip()}}}."
    return ""
