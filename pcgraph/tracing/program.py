"""A traced graph cut at its nodes, and Python functions made from parts of it."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from pcgraph.tracing.draws import site_of

INPUT = "input"
OUTPUT = "output"


@dataclass(frozen=True)
class Stage:
    """A part of the drive program: what it reads from the environment, and what it adds to it.

    Attributes:
        targets: The cuts whose predictions this stage gives, or ``output``.
        takes: What it reads: states by their names, and values that earlier stages gave.
        gives: What it adds: ``NAME.prediction`` for each target (or ``output``), and ``NODE.value``
            for what later stages read.
    """

    targets: tuple[str, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    root: nn.Module = field(repr=False, compare=False)
    function: Callable[..., tuple[Any, ...]] = field(repr=False, compare=False)

    def __call__(self, env: Mapping[str, Any]) -> dict[str, Any]:
        """Compute what this stage gives; ``env`` is not changed."""
        values = self.function(self.root, *[env[name] for name in self.takes])
        return dict(zip(self.gives, values, strict=True))


def prediction_key(target: str) -> str:
    """The name in the environment of what a target gives."""
    return OUTPUT if target == OUTPUT else f"{target}.prediction"


def value_key(node: fx.Node) -> str:
    """The name in the environment of a value inside the network; no state can be called so."""
    return f"{node.name}.value"


class CutGraph:
    """A traced graph with states in it: each use of a cut node's value reads the state instead.

    Numbers that the model draws are read like states; see `pcgraph.tracing.draws`.

    Args:
        graph: The traced graph, with one placeholder.
        place: The node name of each cut, in the order of execution.
    """

    def __init__(self, graph: fx.Graph, place: Mapping[str, str]) -> None:
        self.graph = graph
        self.place = dict(place)
        self.node = {node.name: node for node in graph.nodes}
        (image,) = graph.find_nodes(op="placeholder")
        drawn = {node.name: site.key for node in graph.nodes if (site := site_of(node)) is not None}
        self.state = {image.name: INPUT, **drawn, **{name: cut for cut, name in self.place.items()}}
        self.targets = (*self.place, OUTPUT)
        self.asks = self.dependences()

    def __reduce__(self) -> tuple[Any, ...]:
        return CutGraph, (self.graph, self.place)

    def target(self, target: str) -> fx.Node:
        """The node that computes a cut's prediction, or the output."""
        return self.graph.output_node() if target == OUTPUT else self.node[self.place[target]]

    def dependences(self, carriers: Collection[str] | None = None) -> dict[str, frozenset[str]]:
        """For each node name the states that computing the node reads.

        With ``carriers``, only through those nodes: those that can carry what an image shows, and
        not only how large it is.
        """
        found: dict[str, frozenset[str]] = {}
        for node in self.graph.nodes:
            sources: set[str] = set()
            for operand in node.all_input_nodes:
                if operand.name in self.state:
                    sources.add(self.state[operand.name])
                else:
                    sources |= found[operand.name]
            carries = carriers is None or node.op == "output" or node.name in carriers
            found[node.name] = frozenset(sources if carries else ())
        return found

    def closure(
        self, roots: Iterable[fx.Node], present: Collection[str] = ()
    ) -> tuple[list[fx.Node], list[fx.Node]]:
        """What has to be computed for ``roots`` when the nodes named ``present`` are already known.

        Returns:
            The nodes to compute, and the known ones to take, both in the order of execution.
            States are neither: whoever computes with them reads them.
        """
        needed, taken, todo = set(roots), set(), list(roots)
        while todo:
            for operand in todo.pop().all_input_nodes:
                if operand.name in self.state or operand in needed:
                    continue
                if operand.name in present:
                    taken.add(operand)
                else:
                    needed.add(operand)
                    todo.append(operand)
        return (
            [node for node in self.graph.nodes if node in needed],
            [node for node in self.graph.nodes if node in taken],
        )

    def constants(self, fixed: frozenset[str]) -> dict[str, fx.Node]:
        """What depends on ``fixed`` states only and is a prediction or read by what is not constant."""
        constant = {name for name, states in self.asks.items() if states <= fixed}
        gives = {prediction_key(t): self.target(t) for t in self.targets if self.target(t).name in constant}
        moving = [self.target(t) for t in self.targets if self.target(t).name not in constant]
        weights = {node.name for node in self.graph.nodes if node.op == "get_attr"}
        _, taken = self.closure(moving, present=constant - weights)
        return {**gives, **{value_key(node): node for node in taken}}

    def plan(self, groups: Sequence[Sequence[str]], fixed: frozenset[str]) -> list[Part]:
        """Divide the work of ``groups`` so that what two of them need is computed by the first.

        A value stays valid for later groups until a state that it has read may change, which is
        when that state's cut has been a target.
        """
        constant = self.constants(fixed)
        known = {node.name for key, node in constant.items() if key == value_key(node)}
        parts: list[Part] = []
        maker: dict[str, Part] = {}
        for group in groups:
            part = Part(tuple(group))
            parts.append(part)
            for target in group:
                key = prediction_key(target)
                part.gives[key] = self.target(target)
                if key in constant:
                    part.takes[key] = self.target(target)
            roots = [node for key, node in part.gives.items() if key not in part.takes]
            part.computes, taken = self.closure(roots, present=known | set(maker))
            for node in taken:
                part.takes[value_key(node)] = node
                if node.name in maker:
                    maker[node.name].gives[value_key(node)] = node
            for node in part.computes:
                if node.op not in ("get_attr", "output") and node.name not in self.state:
                    maker[node.name] = part
            maker = {name: made for name, made in maker.items() if not self.asks[name] & set(group)}
        return parts

    def write(self, part: Part, *, named: bool = False) -> tuple[tuple[str, ...], fx.Graph]:
        """A graph of its own for ``part``.

        Args:
            part: What to compute from what.
            named: Whether it returns a dict by target instead of a tuple in the order of ``gives``.

        Returns:
            What its placeholders stand for, and the graph.
        """
        read = {
            self.state[operand.name]
            for node in part.computes
            for operand in node.all_input_nodes
            if operand.name in self.state
        }
        states = [name for name in self.state.values() if name in read]
        graph = fx.Graph()
        names: set[str] = set()
        argument = {key: graph.placeholder(_identifier(key, names)) for key in (*states, *part.takes)}
        operands: dict[fx.Node, fx.Node] = {
            **{self.node[name]: argument[state] for name, state in self.state.items() if state in read},
            **{node: argument[key] for key, node in part.takes.items() if key == value_key(node)},
        }
        results: dict[fx.Node, Any] = {}
        for node in part.computes:
            if node.op == "output":
                results[node] = fx.map_arg(node.args[0], operands.__getitem__)
                continue
            results[node] = graph.node_copy(node, operands.__getitem__)
            if node.name not in self.state:
                operands[node] = results[node]
        given = {
            key: argument[key] if key in part.takes else results[node] for key, node in part.gives.items()
        }
        if named:
            graph.output({key.removesuffix(".prediction"): value for key, value in given.items()})
        else:
            graph.output(tuple(given.values()))
        return tuple(argument), graph

    def stage(self, part: Part, root: nn.Module) -> Stage:
        """Make ``part`` a function of the environment.

        The function looks its weights up on ``root`` when it is called, so ``root`` may move to
        another device, change its dtype or load other weights afterwards.
        """
        takes, graph = self.write(part)
        function = type(fx.GraphModule(root, graph, class_name="Stage")).forward
        return Stage(part.targets, takes, tuple(part.gives), root, function)


@dataclass
class Part:
    """A share of the work: nodes to compute, from values known before, for values asked for."""

    targets: tuple[str, ...]
    computes: list[fx.Node] = field(default_factory=list)
    takes: dict[str, fx.Node] = field(default_factory=dict)
    gives: dict[str, fx.Node] = field(default_factory=dict)


def _identifier(key: str, taken: set[str]) -> str:
    """A Python name for ``key`` that is not taken yet."""
    name = key.replace(".", "_")
    while name in taken or keyword.iskeyword(name) or name == "self":
        name += "_"
    taken.add(name)
    return name
