"""What several fields of a spec must agree on, as far as it needs no model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pcgraph.errors import Fault, FieldPath, closest, suggestions
from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import Skip
from pcgraph.spec.node import Node
from pcgraph.spec.schedule import Schedule
from pcgraph.spec.schema import INPUT
from pcgraph.spec.source import show
from pcgraph.spec.start import start_faults
from pcgraph.spec.training import BELONGS, STEPLESS, Task, Train
from pcgraph.spec.valid_parts import Parts, PlacedEdge, sound_parts
from pcgraph.spec.weights import is_file_reference


def check(data: dict[str, Any]) -> list[Fault]:
    """Every fault between the fields of a spec's plain values; without places.

    Fields that are faulty by themselves are passed over: the schema reports those.
    """
    parts = sound_parts(data)
    checks = (
        _places,
        _names,
        _duplicates,
        _patterns,
        _rule_fields,
        _precisions,
        _bundles,
        _blocks,
        _starts,
        _preprocess,
        _training,
    )
    return [fault for one in checks for fault in one(parts)]


def _places(parts: Parts) -> Iterator[Fault]:
    """Nodes stand in a backbone that there is, each in its own place."""
    modules: dict[str, str] = {}
    if parts.has_backbone and INPUT in parts.names:
        message = f"'{INPUT}' is the image of a network with a backbone and is not declared"
        yield Fault(message, ("nodes", INPUT), "Remove it, or give the node another name.")
    weights = None if parts.backbone is None or parts.backbone.model else parts.backbone.weights
    if weights and not is_file_reference(weights):  # a file's are loaded into any model that is handed over
        message = f"'{weights}' without a model"
        yield Fault(message, ("backbone", "weights"), "Name the 'model' that they are for.")
    for name, node in parts.nodes.items():
        if node.module is None:
            continue
        if not parts.has_backbone:
            message = f"'{node.module}' is a place in a backbone, and this spec has no 'backbone'"
            yield Fault(message, ("nodes", name), "Add a 'backbone', or give the nodes a 'shape'.")
            break
        if node.module in modules:
            message = f"'{modules[node.module]}' and '{name}' are the same place, '{node.module}'"
            yield Fault(message, ("nodes", name), "Keep one of the two.")
        modules.setdefault(node.module, name)
    connected = parts.has_backbone or parts.has_edges or parts.edges or parts.patterns
    if parts.names and not connected and all(node.module is None for node in parts.nodes.values()):
        message = "a network without a backbone needs 'edges': nothing connects its nodes"
        yield Fault(message, ("nodes",), "Add edges such as {source: A, target: B}, or a 'backbone'.")


def _names(parts: Parts) -> Iterator[Fault]:
    """Edges and dynamics name nodes that there are."""
    if not parts.names:
        return
    known = dict.fromkeys([*([INPUT] if parts.has_backbone else []), *parts.names])
    suggest = suggestions(known)

    def unknown(name: str, path: FieldPath) -> Iterator[Fault]:
        if name not in known:
            hint = suggest(name)
            if name == INPUT:
                hint = "Without a backbone there is no 'input'; declare it under 'nodes' with a shape."
            yield Fault(f"unknown node '{name}'", path, hint)

    for placed in parts.edges:
        source = placed.edge.source
        if isinstance(source, str):
            yield from unknown(source, (*placed.path, "source"))
        else:
            for index, name in enumerate(source):
                yield from unknown(name, (*placed.path, "source", index))
        yield from unknown(placed.edge.target, (*placed.path, "target"))
    for name in parts.dynamics.nodes if parts.dynamics else ():
        yield from unknown(name, ("dynamics", "nodes", name))


def _duplicates(parts: Parts) -> Iterator[Fault]:
    """No edge stands twice, and no edge names a source twice."""
    first: dict[str, PlacedEdge] = {}
    for placed in parts.edges:
        sources = placed.edge.sources
        for index, name in enumerate(sources):
            if name in sources[:index]:
                message = f"'{name}' is named twice as a source of one edge"
                yield Fault(message, (*placed.path, "source", index), "Remove one of the two.")
        if placed.name in first:
            section, index_of = first[placed.name].path[0], first[placed.name].path[-1]
            other = f"{section}[{index_of}]" if isinstance(index_of, int) else str(section)
            message = f"the edge {placed.name} is already given as {other}"
            yield Fault(message, placed.path, "Remove one of the two.")
        first.setdefault(placed.name, placed)


def _patterns(parts: Parts) -> Iterator[Fault]:
    """Patterns follow something, and 'none' stands alone."""
    feedback = [placed for placed in parts.edges if placed.kind == "feedback"]
    for pattern, path in parts.patterns:
        shown = f"{{skip: {pattern.skip}}}" if isinstance(pattern, Skip) else f"'{pattern}'"
        if pattern == "none":
            if len(parts.patterns) + len(feedback) > 1:
                yield Fault("'none' stands alone", path, "Remove it, or remove the rest of 'feedback'.")
        elif parts.names and not parts.has_backbone and not parts.has_edges:
            message = f"the pattern {shown} follows the feedforward edges, and there are none"
            yield Fault(message, path, "Add 'edges', or a 'backbone'.")


def _rule_fields(parts: Parts) -> Iterator[Fault]:
    """Edges set only what the rule of the dynamics uses."""
    if parts.dynamics is None:
        return
    for placed in parts.edges:
        if parts.dynamics.rule == "energy":
            for name in ("gain", "error", "reach"):
                if getattr(placed.edge, name) is not None:
                    hint = "Rule 'energy' weighs an edge by its 'precision'."
                    yield Fault(f"'{name}' belongs to rule 'predify'", (*placed.path, name), hint)
        elif placed.edge.precision != 1:
            hint = "Rule 'predify' weighs an edge by its 'gain' and 'error'."
            yield Fault("'precision' belongs to rule 'energy'", (*placed.path, "precision"), hint)
        elif placed.edge.energy != "gaussian":
            hint = "Rule 'predify' knows the squared error only."
            yield Fault("'energy' belongs to rule 'energy'", (*placed.path, "energy"), hint)
    for name, node in parts.nodes.items() if parts.dynamics.rule == "predify" else ():
        for field_name, default in (("energy", "gaussian"), ("precision", 1)):
            if getattr(node, field_name) != default:
                message = f"'{field_name}' belongs to rule 'energy'"
                yield Fault(message, ("nodes", name, field_name), "Write 'dynamics: {rule: energy}'.")


def _precisions(parts: Parts) -> Iterator[Fault]:
    """Precisions fit the energy and the target."""
    placed = [(one.edge, one.path, parts.nodes.get(one.edge.target)) for one in parts.edges]
    predictions: list[tuple[Edge | Node, FieldPath, Node | None]] = [*placed]
    predictions += [(node, ("nodes", name), None) for name, node in parts.nodes.items()]
    for one, path, target in predictions:
        precision, here = one.precision, (*path, "precision")
        if one.energy != "gaussian" and not isinstance(precision, float):
            message = f"the precision of energy '{one.energy}' is one number"
            yield Fault(message, here, "Lists and 'learned' are for energy 'gaussian'.")
        elif isinstance(precision, tuple) and target is not None and target.shape is not None:
            given, expected = len(precision), target.shape[0]
            message = f"{_count(given, 'precision')} for a first dimension of {expected}"
            if given != expected:
                yield Fault(message, here, f"Give one number for each of the {expected} entries.")


def _bundles(parts: Parts) -> Iterator[Fault]:
    """Edges of a bundle make one prediction: they agree in all that is about its error."""
    first: dict[str, PlacedEdge] = {}
    for placed in parts.edges:
        edge = placed.edge
        if edge.bundle is None:
            continue
        if "->" in edge.bundle:  # an edge alone is a term that has the edge's name
            message = f"'{edge.bundle}' cannot name a bundle"
            yield Fault(message, (*placed.path, "bundle"), "Take a name without '->', which is for edges.")
            continue
        other = first.setdefault(edge.bundle, placed)
        path = (*placed.path, "bundle")
        both = f"bundle '{edge.bundle}': {other.name} and {placed.name}"
        if edge.target != other.edge.target:
            yield Fault(f"{both} have different targets", path, "A bundle predicts one node.")
        elif placed.kind != other.kind:
            message = f"{both} are a {other.kind} and a {placed.kind} edge"
            yield Fault(message, path, "Put all edges of a bundle under 'edges', or all under 'feedback'.")
        elif edge.precision != other.edge.precision:
            shown = [
                f"{one:g}" if isinstance(one, float) else show(one)
                for one in (other.edge.precision, edge.precision)
            ]
            message = f"{both} have precisions {shown[0]} and {shown[1]}"
            yield Fault(message, path, "A bundle has one error, so one precision.")
        elif edge.energy != other.edge.energy:
            message = f"{both} have energies {other.edge.energy} and {edge.energy}"
            yield Fault(message, path, "A bundle has one error, so one energy.")
        elif edge.gain != other.edge.gain:
            gains = ["none" if gain is None else f"{gain:g}" for gain in (other.edge.gain, edge.gain)]
            message = f"{both} have gains {gains[0]} and {gains[1]}"
            yield Fault(message, path, "A bundle has one error, so one gain.")
        elif parts.schedule and (_delay(placed, parts.schedule) == 0) != (_delay(other, parts.schedule) == 0):
            delays = f"{_delay(other, parts.schedule)} and {_delay(placed, parts.schedule)}"
            hint = "Edges of delay 0 are judged within the step, others before it."
            yield Fault(f"{both} have delays {delays}", path, hint)


def _delay(placed: PlacedEdge, schedule: Schedule) -> int:
    if placed.edge.delay is not None:
        return placed.edge.delay
    return 0 if schedule.order == "sweep" and placed.kind == "feedforward" else 1


def _blocks(parts: Parts) -> Iterator[Fault]:
    """The blocks of a sequential order name each node once, and no edge jumps ahead of them."""
    if parts.schedule is None or isinstance(parts.schedule.order, str) or not parts.names:
        return
    known = [*([INPUT] if parts.has_backbone else []), *parts.names]
    seen: set[str] = set()
    for i, block in enumerate(parts.schedule.order):
        for j, name in enumerate(block):
            path: FieldPath = ("schedule", "order", i, j)
            if name not in known:
                yield Fault(f"unknown node '{name}'", path, closest(name, known))
            elif name in seen:
                yield Fault(f"'{name}' stands in the order twice", path, "A node moves once a step.")
            seen.add(name)
    delays = [(one.edge.delay, (*one.path, "delay")) for one in parts.edges]
    delays += [(node.delay, ("nodes", name, "delay")) for name, node in parts.nodes.items()]
    for delay, path in delays:
        if delay == 0:
            message = "delay 0 has no meaning in an order of blocks: there delay 1 reads the newest states"
            yield Fault(message, path, "Leave the delay out.")


def _starts(parts: Parts) -> Iterator[Fault]:
    """Learned first guesses are there when they are asked for, and fit together."""
    initial = parts.schedule.initial if parts.schedule else None
    if parts.has_starts and initial not in (None, "amortised"):
        message = f"'start' is for 'schedule.initial: amortised', which is '{initial}'"
        yield Fault(message, ("start",), "Write 'schedule: {initial: amortised}', or remove 'start'.")
    if initial == "amortised" and not parts.has_starts:
        message = "'amortised' makes first guesses by the edges under 'start', and there are none"
        yield Fault(message, ("schedule", "initial"), "Add 'start: [{source: A, target: B}]'.")
    image = [INPUT] if parts.has_backbone else []
    driven = [*image, *(name for name, node in parts.nodes.items() if node.module is not None)]
    yield from start_faults(parts.starts, [*image, *parts.names] if parts.names else [], driven)


def _preprocess(parts: Parts) -> Iterator[Fault]:
    """The image's channels and size fit the network's input."""
    if parts.backbone is None or parts.backbone.preprocess is None:
        return
    path: FieldPath = ("backbone", "preprocess")
    shape, preprocess = parts.backbone.input, parts.backbone.preprocess
    if len(shape) != 3:
        message = f"'preprocess' is for images, and the input {list(shape)} is none"
        yield Fault(message, path, "An image is [channels, height, width].")
        return
    for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
        if len(values) != shape[0]:
            message = f"{_count(len(values), 'value')} for an input of {_count(shape[0], 'channel')}"
            yield Fault(message, (*path, name), f"Give '{name}' one value for each channel.")
    if preprocess.resize is not None and preprocess.resize < min(shape[1:]):
        message = f"{preprocess.resize} pixels are less than the crop to {shape[1]} x {shape[2]}"
        yield Fault(message, (*path, "resize"), f"At least {min(shape[1:])}.")


def _training(parts: Parts) -> Iterator[Fault]:
    """What shall learn can learn."""
    train = parts.train
    if train is None:
        return
    if train.task == "energy" and parts.dynamics is not None and parts.dynamics.rule != "energy":
        message = "the task 'energy' follows an energy, and the dynamics have rule 'predify'"
        yield Fault(message, ("train", "task"), "Write 'dynamics: {rule: energy}'.")
    if train.task is not None or parts.dynamics is not None:
        yield from _unused(train, train.task_under(parts.dynamics.rule if parts.dynamics else ""))
    if train.learns and "backbone" in train.learns:
        if train.task == "feedback":
            message = "the task 'feedback' leaves the backbone as it is"
            yield Fault(message, ("train", "learns"), "Write 'task: through_time', or leave 'learns' out.")
        elif not parts.has_backbone:
            yield Fault("this spec has no 'backbone' to learn", ("train", "learns"), "Leave 'learns' out.")
    if parts.tunes and parts.dynamics is not None and parts.dynamics.rule != "predify":
        message = "the values of rule 'predify' are tuned, and the dynamics have rule 'energy'"
        yield Fault(message, ("tune",), "Write 'dynamics: {rule: predify}', or take 'tune' out.")
    if train.label is not None and parts.names and train.label not in parts.names:
        message = f"unknown node '{train.label}'"
        yield Fault(message, ("train", "label"), closest(train.label, parts.names))


def _unused(train: Train, task: Task) -> Iterator[Fault]:
    """Fields of a training that its task does not look at."""
    for name in train.model_dump(exclude_defaults=True):
        of = BELONGS.get(name, (task,))
        if task not in of:
            message = f"'{name}' belongs to task {' and '.join(map(repr, of))}, and this is task '{task}'"
            yield Fault(message, ("train", name), "Leave it out, or write another 'task'.")
    if train.steps is not None and task == "energy" and train.rule in STEPLESS:
        message = f"'steps' changes nothing: rule '{train.rule}' has no number of steps"
        yield Fault(message, ("train", "steps"), "Leave it out: other rules then take 'schedule.steps'.")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
