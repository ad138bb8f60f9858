"""The candidate table: every place of a model where a state can live, with its shape and cost."""

from __future__ import annotations

import html
import io
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text
from torch import fx, nn

from pcgraph.display.text import format_count, format_shape
from pcgraph.errors import Fault, InputError, ModelError, closest
from pcgraph.spec.objects import PREFIX
from pcgraph.tracing.drive import reached_by_input
from pcgraph.tracing.facts import default_input
from pcgraph.tracing.models import load_with_constants
from pcgraph.tracing.reading import Asked, Reading, read
from pcgraph.tracing.shapes import needs_values

HEADS = ("node", "op", "shape", "parameters", "cost")
"""Columns of the table."""
BOLD = "In bold: all paths pass here."
WIDEST = 100_000
"""Columns of text that a printed table may take: as many as it needs, so that no name is cut."""


@dataclass(frozen=True)
class Candidate:
    """A place in a model.

    Attributes:
        name: Qualified name, what a spec writes.
        op: Class of the module, or name of the function or tensor method.
        shape: Shape of the value without the batch; None when the value is no single tensor of real numbers
            with a batch in front and a dimension besides, and so cannot be a state.
        parameters: Weights that are used here and nowhere earlier.
        cost: Multiply-adds for one image.
        trunk: Whether every path from the image to the output passes here.
    """

    name: str
    op: str
    shape: tuple[int, ...] | None
    parameters: int
    cost: int
    trunk: bool

    @property
    def usable(self) -> bool:
        """Whether a state can live here."""
        return self.shape is not None


@dataclass(frozen=True)
class Table(Sequence[Candidate]):
    """The candidates of a model in the order of execution; ``table["features.3"]`` finds one.

    Attributes:
        model: The model's reference, or the name of its class.
        input_shape: Shape of one image.
        candidates: Every place whose value depends on the image.
        total_cost: Multiply-adds of the whole model for one image.
        total_parameters: Weights that the whole model uses.
    """

    model: str
    input_shape: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    total_cost: int
    total_parameters: int

    def __getitem__(self, which: Any) -> Any:
        if not isinstance(which, str):
            return self.candidates[which]
        for candidate in self.candidates:
            if candidate.name == which:
                return candidate
        names = [candidate.name for candidate in self.candidates]
        raise InputError(Fault(f"{self.model} has no node '{which}'", hint=closest(which, names)))

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, for JSON."""
        rows = [{**asdict(row), "shape": list(row.shape) if row.shape else None} for row in self]
        return {
            "model": self.model,
            "input": list(self.input_shape),
            "total_cost": self.total_cost,
            "total_parameters": self.total_parameters,
            "candidates": rows,
        }

    def __repr__(self) -> str:
        cost, parameters = format_count(self.total_cost), format_count(self.total_parameters)
        return (
            f"Table of {self.model}, input {format_shape(self.input_shape)}: {len(self)} places "
            f"({sum(row.usable for row in self)} can hold a state), {cost} multiply-adds an image, "
            f"{parameters} parameters"
        )

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=WIDEST, color_system=None, force_terminal=False)
        with console.capture() as printed:
            console.print(self._view(""))
        return "\n".join(line.rstrip() for line in printed.get().splitlines())

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        rows = [f"<tr>{''.join(f'<th>{name}</th>' for name in HEADS)}</tr>"]
        for row in self:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row))
            rows.append(f'<tr style="font-weight: {"bold" if row.trunk else "normal"}">{cells}</tr>')
        return f"<p>{html.escape(repr(self))}. {BOLD}</p><table>{''.join(rows)}</table>"

    def __rich__(self) -> rich.table.Table:
        return self._view(f" {BOLD}")

    def _view(self, legend: str) -> rich.table.Table:
        cost, parameters = format_count(self.total_cost), format_count(self.total_parameters)
        view = rich.table.Table(
            title=Text(f"{self.model}, input {format_shape(self.input_shape)}"),
            caption=f"{cost} multiply-adds an image, {parameters} parameters.{legend}",
        )
        view.add_column(HEADS[0], no_wrap=True)
        view.add_column(HEADS[1])
        for title in HEADS[2:]:
            view.add_column(title, justify="right", no_wrap=True)
        for row in self:
            style = "dim" if row.shape is None else "bold" if row.trunk else ""
            view.add_row(*map(Text, _cells(row)), style=style)
        return view


def _cells(row: Candidate) -> tuple[str, ...]:
    """A row of the table, under `HEADS`."""
    return (
        row.name,
        row.op,
        format_shape(row.shape) if row.shape is not None else "(no state)",
        format_count(row.parameters) if row.parameters else "",
        format_count(row.cost) if row.cost else "",
    )


def trace(
    model: str | nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    trust: bool = False,
    arguments: Mapping[str, object] = {},
    verify: bool = True,
) -> Table:
    """List the places of a model where a state can live.

    Args:
        model: ``torchvision:NAME``, ``timm:NAME``, ``python:PACKAGE.MODULE:NAME`` or a module, which
            is not changed.
        input_shape: Shape of one image. Left out: what the model was made for.
        trust: Whether ``python:`` may import and run foreign code.
        arguments: Keyword arguments for the model's constructor, and constants for its forward.
        verify: Whether to compare what was read with the model itself. Models of torchvision and timm
            are read without their weights, and not compared before they are built.

    Raises:
        ModelError: There is no such model, or it cannot be read, take such images, or differs from
            what was read.
    """
    shape = tuple(input_shape) if input_shape is not None else default_input(model)
    meta = isinstance(model, str) and not model.startswith(PREFIX)

    def reading_of(meta: bool, verify: bool) -> Reading:
        built, constants = load_with_constants(model, arguments=arguments, trust=trust, meta=meta)
        return read(built, Asked(shape, constants), owned=True, verify=verify)

    try:
        reading = reading_of(meta, verify)
    except ModelError as error:
        if not meta or not needs_values(error):
            raise
        reading = reading_of(meta=False, verify=False)
    graph, values = reading.graph, reading.values
    qualified = {name: qualname for qualname, name in reading.names.items()}
    reached = reached_by_input(graph, values)
    trunk = _trunk(graph, reached)
    rows: dict[str, Candidate] = {}
    parameters: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    counted: set[int] = set()
    for node in graph.nodes:
        place = node.meta.get("place", node.name)  # of several operations that make one value
        parameters[place] += _parameters(reading.root, node, counted)
        cost[place] += values[node.name].cost
        if node.op.startswith("call_") and node.name in reached and node.name in qualified:
            name, value = qualified[node.name], values[node.name]
            shape_here = value.shape if value.shape and value.fits(reading.dtype) else None
            rows[place] = Candidate(name, _op(node, reading.root), shape_here, 0, 0, node.name in trunk)
    return Table(
        model=model if isinstance(model, str) else type(model).__name__,
        input_shape=shape,
        candidates=tuple(
            replace(row, parameters=parameters[name], cost=cost[name]) for name, row in rows.items()
        ),
        total_cost=cost.total(),
        total_parameters=parameters.total(),
    )


def _op(node: fx.Node, root: nn.Module) -> str:
    if "op" in node.meta:
        return str(node.meta["op"])
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))).__name__
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _parameters(root: nn.Module, node: fx.Node, counted: set[int]) -> int:
    """How many weights an operation reads that no earlier one has read."""
    found: list[nn.Parameter] = []
    for user in (node, *node.all_input_nodes):
        if user.op in ("call_module", "get_attr"):
            value = operator.attrgetter(str(user.target))(root)
            found += value.parameters() if isinstance(value, nn.Module) else [value]
    new = {
        id(value): value for value in found if isinstance(value, nn.Parameter) and id(value) not in counted
    }
    counted.update(new)
    return sum(value.numel() for value in new.values())


def _trunk(graph: fx.Graph, reached: set[str]) -> set[str]:
    """The nodes that every path from the image to the output passes.

    In the order of execution those are the nodes that no connection leaps over.
    """
    needed = {graph.output_node()}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(operand for operand in node.all_input_nodes if operand.name in reached)
    path = [node for node in graph.nodes if node in needed and node.name in reached]
    rank = {node: index for index, node in enumerate(path)}
    trunk: set[str] = set()
    furthest = 0
    for index, node in enumerate(path):
        if furthest <= index:
            trunk.add(node.name)
        furthest = max([furthest, *(rank[user] for user in node.users if user in rank)])
    return trunk
