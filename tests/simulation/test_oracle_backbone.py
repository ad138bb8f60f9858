"""The scheduler against the reference implementation, on random networks cut at random places.

The reference knows nothing of traced graphs: the network below can be asked to put another value in
a variable's place, which is all that a state does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor, nn

import pcgraph as pcg
from tests.examples import examples
from tests.reference import Edge, Record, Reference, written_edges
from tests.simulation.test_oracle import (
    EVERYTHING,
    assert_close,
    assert_same,
    dynamics,
    loss,
    precisions,
    predictors,
)

pytestmark = pytest.mark.usefixtures("tiny_networks")

IMAGE = (2, 8, 8)
Shape = tuple[int, ...]


# ---- networks that can be cut ---------------------------------------------------------------------


@dataclass
class Operation:
    """One line of a network's program: ``variables.append(kind(variables[of], ...))``."""

    kind: str
    of: tuple[int, ...]
    module: str = ""
    place: str = ""


class Net(nn.Module):
    """Runs a list of operations; `act` works in place, and so does ``iadd``."""

    def __init__(
        self, operations: list[Operation], modules: Mapping[str, nn.Module], loose: list[int], width: int
    ) -> None:
        super().__init__()
        self.operations = operations
        self.layers = nn.ModuleDict(modules)
        self.act = nn.ReLU(inplace=True)
        self.loose = loose
        self.head = nn.Linear(width, 3)

    def forward(self, image: Tensor) -> Tensor:
        variables = [image]
        for operation in self.operations:
            first, *others = (variables[index] for index in operation.of)
            if operation.kind == "module":
                result = self.layers[operation.module](first)
            elif operation.kind == "act":
                result = self.act(first)
            elif operation.kind == "tanh":
                result = torch.tanh(first)
            elif operation.kind == "iadd":
                result = first
                result += others[0]
            else:
                result = first + others[0]
            variables.append(result)
        means = [variables[index].mean(dim=(2, 3)) for index in self.loose]
        return self.head(torch.cat(means, dim=1))

    def with_states(self, image: Tensor, states: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The output and the value computed at each place, when some places' values are replaced.

        Nothing is computed in place. What works in place in `forward` changes all variables that
        are the same tensor there (dropout gives its argument back): `same` keeps track of that.
        """
        variables = [image]
        same = [{0}]
        computed: dict[str, Tensor] = {}
        for operation in self.operations:
            first, *others = (variables[index] for index in operation.of)
            if operation.kind == "module":
                result = self.layers[operation.module](first.clone())
            elif operation.kind == "act":
                result = torch.relu(first)
            elif operation.kind == "tanh":
                result = torch.tanh(first)
            else:
                result = first + others[0]
            computed[operation.place] = result
            result = states.get(operation.place, result)
            own = len(variables)
            variables.append(result)
            same.append({own})
            in_place = operation.kind in ("act", "iadd")
            if in_place or operation.module.startswith("drop"):
                group = {own} | same[operation.of[0]]
                for index in group:
                    same[index] = group
                    if in_place:
                        variables[index] = result
        means = [variables[index].mean(dim=(2, 3)) for index in self.loose]
        return self.head(torch.cat(means, dim=1)), computed


def module_for(name: str, shape: Shape) -> nn.Module:
    kind = name.split("_")[0]
    if kind == "conv":
        return nn.Conv2d(shape[0], 2, 3, padding=1)
    if kind == "down":
        return nn.Conv2d(shape[0], 3, 3, stride=2, padding=1)
    if kind == "pool":
        return nn.AvgPool2d(2)
    if kind == "drop":
        return nn.Dropout(0.5)
    norm = nn.BatchNorm2d(shape[0])
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.copy_(torch.rand_like(tensor) + 0.5)
    return norm


@dataclass
class Case:
    """A network, where it is cut, and what a run of it is given."""

    operations: list[Operation]
    layers: dict[str, Shape]
    shapes: dict[str, Shape]
    loose: list[int]
    width: int
    spec: dict[str, Any] = field(default_factory=dict)
    batch: int = 1
    steps: int = 1
    seed: int = 0
    given: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)
    free: list[str] = field(default_factory=list)

    def net(self) -> Net:
        torch.manual_seed(self.seed)
        modules = {name: module_for(name, shape) for name, shape in self.layers.items()}
        return Net(self.operations, modules, self.loose, self.width).double()

    @property
    def places(self) -> dict[str, str]:
        """The place of each cut, in the order of execution."""
        written = {
            name: node["module"] if isinstance(node, dict) else node
            for name, node in self.spec["nodes"].items()
            if isinstance(node, str) or "module" in node
        }
        position = {operation.place: index for index, operation in enumerate(self.operations)}
        return dict(sorted(written.items(), key=lambda item: position[item[1]]))

    def node_shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"input": IMAGE}
        for name, node in self.spec["nodes"].items():
            shapes[name] = self.shapes[self.places[name]] if name in self.places else tuple(node["shape"])
        return shapes

    def arguments(self) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(self.seed)
        shapes = self.node_shapes()
        values = {
            name: torch.randn((self.batch, *shapes[name]), generator=generator, dtype=torch.float64)
            for name in self.given
        }
        mask = {
            name: torch.rand((self.batch, *shapes[name]), generator=generator) < 0.5 for name in self.masked
        }
        return {"inputs": values.pop("input"), "clamp": values, "mask": mask, "free": self.free}


@st.composite
def nets(draw: st.DrawFn) -> Case:
    """A program of 3 to 8 operations with skip paths, modules called twice and in-place operations."""
    operations: list[Operation] = []
    shapes: list[Shape] = [IMAGE]
    layers: dict[str, Shape] = {}
    used: set[int] = set()
    calls: dict[str, int] = {}

    def add(kind: str, of: tuple[int, ...], shape: Shape, base: str, module: str = "") -> None:
        count = calls[base] = calls.get(base, -1) + 1
        operations.append(Operation(kind, of, module, f"{base}_{count}" if count else base))
        shapes.append(shape)
        used.update(of)

    def add_module(kind: str, of: int) -> None:
        channels, size, _ = shapes[of]
        again = [name for name, shape in layers.items() if name.startswith(kind) and shape == shapes[of]]
        if again and draw(st.booleans()):
            name = again[0]
        else:
            name = f"{kind}_{'abcdefgh'[len(layers)]}"
            layers[name] = shapes[of]
        shape = {
            "conv": (2, size, size),
            "down": (3, size // 2, size // 2),
            "pool": (channels, size // 2, size // 2),
        }.get(kind, shapes[of])
        add("module", (of,), shape, f"layers.{name}", name)

    add_module("conv", 0)
    for _ in range(draw(st.integers(2, 7))):
        of = len(shapes) - 1 if draw(st.integers(0, 3)) else draw(st.integers(0, len(shapes) - 1))
        alike = [index for index, shape in enumerate(shapes) if shape == shapes[of] and index != of]
        kinds = ["conv", "norm", "tanh"] + ["act", "drop"] * (of > 0) + ["add"] * bool(alike) * 3
        kinds += ["iadd"] * bool(alike and of > 0) + ["down", "pool"] * (shapes[of][1] > 2)
        kind = draw(st.sampled_from(kinds))
        if kind in ("add", "iadd"):
            add(kind, (of, draw(st.sampled_from(alike))), shapes[of], "add")
        elif kind in ("act", "tanh"):
            add(kind, (of,), shapes[of], kind)
        else:
            add_module(kind, of)
    loose = [index for index in range(1, len(shapes)) if index not in used]
    return Case(
        operations=operations,
        layers=layers,
        shapes={operation.place: shape for operation, shape in zip(operations, shapes[1:], strict=True)},
        loose=loose,
        width=sum(shapes[index][0] for index in loose),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    case = draw(nets())
    places = [operation.place for operation in case.operations]
    chosen = draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True))
    nodes: dict[str, Any] = {}
    for name, place in zip("edcb", chosen, strict=False):
        delay = draw(st.sampled_from([None, None, 0, 1, 2]))
        nodes[name] = place if delay is None else {"module": place, "delay": delay}
    if draw(st.booleans()):
        nodes["label"] = {"shape": [3]}
    names = ["input", *nodes]
    order = draw(st.sampled_from(["synchronous", "sweep"]))
    initial = draw(st.sampled_from(["feedforward", "feedforward", "zeros"]))
    case.spec = {
        "name": "random",
        "backbone": {"model": "python:tests.simulation.test_oracle_backbone:Net", "input": list(IMAGE)},
        "nodes": nodes,
        "dynamics": draw(dynamics(names)),
        "edges": [],
        "feedback": [],
        "schedule": {"order": order, "initial": initial},
    }
    shapes = {name: list(shape) for name, shape in case.node_shapes().items()}
    counted = case.spec["dynamics"].get("gradient") == "normalized"

    def edge(source: str, target: str, delay: int | None) -> dict[str, Any]:
        made: dict[str, Any] = {"source": source, "target": target}
        made["predictor"] = draw(predictors(shapes[source], shapes[target], counted))
        if delay is not None:
            made["delay"] = delay
        return made

    if "label" in nodes:
        case.spec["edges"].append(edge(draw(st.sampled_from(names[:-1])), "label", None))
    if case.spec["dynamics"]["rule"] == "energy":
        for name in nodes:
            if name != "label" and draw(st.integers(0, 2)) == 0:
                written = nodes[name] if isinstance(nodes[name], dict) else {"module": nodes[name]}
                nodes[name] = {**written, "precision": draw(precisions(shapes[name][0]))}
    for _ in range(draw(st.integers(0, 2))):  # lateral and free-standing feedforward edges
        source, target = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        if source == target or "label" in (source, target):
            case.spec["edges"].append(edge(source, target, draw(st.integers(1, 2))))
    for _ in range(draw(st.integers(0, 3))):
        source, target = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        case.spec["feedback"].append(edge(source, target, draw(st.sampled_from([None, 1, 2]))))
    pairs: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for kind in ("edges", "feedback"):
        for one in case.spec[kind]:
            pairs.setdefault((one["source"], one["target"]), (kind, one))
        case.spec[kind] = [one for pair_kind, one in pairs.values() if pair_kind == kind]
    if draw(st.integers(0, 2)) == 0:
        patterns = st.sampled_from(["chain", "to_input", "dense", {"skip": 2}])
        case.spec["feedback"] += draw(st.lists(patterns, min_size=1, max_size=2, unique_by=str))
    held = ["input", *(name for name in nodes if draw(st.integers(0, 5)) == 0)]
    fate = {name: draw(st.sampled_from(["whole", "whole", "masked", "free"])) for name in held}
    case.batch, case.steps = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    case.seed = draw(st.integers(0, 1000))
    case.given = held
    case.masked = [name for name in held if fate[name] == "masked"]
    case.free = [name for name in held if fate[name] == "free"]
    return case


# ---- the reference --------------------------------------------------------------------------------


@torch.enable_grad()
def reads(net: Net, case: Case, cut: str) -> list[str]:
    """The states that a cut's value depends on: those that autograd finds a path from."""
    places = case.places
    shapes = case.node_shapes()
    values = {name: torch.randn(1, *shapes[name], dtype=torch.float64, requires_grad=True) for name in places}
    image = torch.randn(1, *IMAGE, dtype=torch.float64, requires_grad=True)
    _, computed = net.with_states(image, {place: values[name] for name, place in places.items()})
    names, tensors = ["input", *places], [image, *values.values()]
    found = torch.autograd.grad(computed[places[cut]].sum(), tensors, allow_unused=True)
    return [name for name, gradient in zip(names, found, strict=True) if gradient is not None]


def drive_function(net: Net, case: Case, cut: str, sources: list[str]) -> Callable[..., Tensor]:
    """What the network computes at a cut from its sources; all other states are NaN."""
    places, shapes = case.places, case.node_shapes()

    def predict(*values: Tensor) -> Tensor:
        batch = len(values[0])
        states = {name: torch.full((batch, *shapes[name]), torch.nan, dtype=torch.float64) for name in shapes}
        states.update(zip(sources, values, strict=True))
        replaced = {place: states[name] for name, place in places.items()}
        _, computed = net.with_states(states["input"], replaced)
        return computed[places[cut]]

    return predict


def spelt_out(case: Case, feeds: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """The feedback edges of a spec, its patterns written as edges."""
    explicit = [item for item in case.spec["feedback"] if isinstance(item, dict) and "source" in item]
    pairs = {(edge["source"], edge["target"]) for edge in explicit + case.spec["edges"]}
    feeds = {node: list(sources) for node, sources in feeds.items()}
    for edge in case.spec["edges"]:
        feeds[edge["target"]].append(edge["source"])

    def below(node: str, steps: int) -> set[str]:
        """The nodes that lie exactly so many feedforward edges below, and not fewer."""
        reached, layer = {node}, {node}
        for _ in range(steps):
            layer = {source for one in layer for source in feeds[one]} - reached
            reached |= layer
        return layer

    edges = list(explicit)
    for item in case.spec["feedback"]:
        for node in case.spec["nodes"]:
            wanted: set[str] = set()
            if item == "chain":
                wanted = set(feeds[node])
            elif item == "to_input":
                wanted = {"input"}
            elif item == "dense":
                wanted = set().union(*(below(node, steps) for steps in range(1, 9)))
            elif "skip" in item:
                wanted = below(node, item["skip"])
            for target in sorted(wanted - {node}):
                if (node, target) not in pairs:
                    pairs.add((node, target))
                    edges.append({"source": node, "target": target})
    return edges


def reference_run(
    case: Case, net: Net, network: pcg.PCNetwork, arguments: dict[str, Any], first_order: bool = False
) -> tuple[Record, list[Tensor]]:
    """The reference's record, and the output at each step."""
    edges = []
    default = 0 if case.spec["schedule"]["order"] == "sweep" else 1
    feeds: dict[str, list[str]] = {name: [] for name in case.node_shapes()}
    for cut in case.places:
        sources = feeds[cut] = reads(net, case, cut)
        function = drive_function(net, case, cut, sources)
        node = case.spec["nodes"][cut]
        delay = node.get("delay", default) if isinstance(node, dict) else default
        name = "+".join(sources) + "->" + cut
        edge = Edge(tuple(sources), cut, "feedforward", function, delay, bundle=name, drive=True)
        edge.precision = network.spec.nodes[cut].precision
        edges.append(edge)
    spec = pcg.parse_spec({**case.spec, "feedback": spelt_out(case, feeds)})
    edges += written_edges(spec, network.predictors)
    reference = Reference(spec, case.node_shapes(), edges, first_order)
    values = {"input": arguments["inputs"], **arguments["clamp"]}
    reference.start(values, arguments["mask"], case.free, case.batch)
    record = reference.run(case.steps)
    outputs = []
    for states in reference.history:
        replaced = {place: states[name] for name, place in case.places.items()}
        outputs.append(net.with_states(states["input"], replaced)[0])
    return record, outputs


def build(case: Case, net: Net) -> pcg.PCNetwork | None:
    """The network; None where the backbone already makes an edge, or a pattern finds no two nodes."""
    try:
        return pcg.build(pcg.parse_spec(case.spec), model=net, seed=case.seed).double()
    except pcg.SpecError as error:
        expected = ("the backbone already makes", "finds no two nodes")
        if all(any(text in fault.message for text in expected) for fault in error.faults):
            return None
        raise


@examples(60)
@given(cases())
def test_every_quantity_at_every_step(case: Case) -> None:
    event(case.spec["dynamics"]["rule"] + ", " + case.spec["schedule"]["order"])
    net = case.net().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    network = build(case, net)
    if network is None:
        return event("no network")
    arguments = case.arguments()
    given = {name: tensor.clone() for name, tensor in arguments["clamp"].items()}
    image = arguments["inputs"].clone()
    run = pcg.Scheduler(network).run(steps=case.steps, record=["output", *EVERYTHING], **arguments)
    assert torch.equal(arguments["inputs"], image)
    assert all(torch.equal(arguments["clamp"][name], value) for name, value in given.items())
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    with torch.no_grad():
        expected, outputs = reference_run(case, net, network, arguments)
    assert_same(run, expected)
    assert len(run.output) == len(outputs)
    for step, output in enumerate(outputs):
        assert_close(run.output[step], output, f"output, step {step}")
    if case.given == ["input"] and "zeros" not in case.spec["schedule"]["initial"] and not case.masked:
        with torch.no_grad():
            assert torch.equal(run.output[0], net(image.clone())), "the plain network's output at step 0"


def check_gradients(case: Case, differentiable: Any) -> None:
    net = case.net().eval()
    network = build(case, net)
    if network is None:
        return
    parameters = dict(network.predictors.named_parameters())

    def gradients(simulate: Callable[[dict[str, Any]], tuple[Any, list[Tensor]]]) -> dict[str, Tensor]:
        arguments = case.arguments()
        wanted = {"input": arguments["inputs"].requires_grad_(), **parameters}
        values, outputs = simulate(arguments)
        total = loss({**values, "output": outputs})
        found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
        return {
            name: torch.zeros_like(tensor) if gradient is None else gradient
            for (name, tensor), gradient in zip(wanted.items(), found, strict=True)
        }

    def reference(arguments: dict[str, Any]) -> tuple[Any, list[Tensor]]:
        record, outputs = reference_run(case, net, network, arguments, differentiable == "first_order")
        return record.values, outputs

    def simulate(arguments: dict[str, Any], checkpoint: bool) -> tuple[Any, list[Tensor]]:
        run = pcg.Scheduler(network).run(
            steps=case.steps,
            record=["values", "output"],
            differentiable=differentiable,
            checkpoint=checkpoint,
            **arguments,
        )
        return run.values, run.output

    expected = gradients(reference)
    for checkpoint in (False, True):
        found = gradients(lambda arguments, c=checkpoint: simulate(arguments, c))
        for name, gradient in expected.items():
            assert_close(found[name], gradient, f"{name}, checkpoint={checkpoint}", 1e-9)


@pytest.mark.heavy
@pytest.mark.parametrize("differentiable", [True, "first_order"])
@examples(40)
@given(case=cases())
def test_gradients_of_a_differentiable_run(differentiable: Any, case: Case) -> None:
    check_gradients(case, differentiable)
