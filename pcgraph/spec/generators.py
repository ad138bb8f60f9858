"""The graphs that a spec may name: a fixed list of networkx generators, each with its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from pcgraph.errors import Fault, SpecError, closest
from pcgraph.spec.layers import COUNT, Kind, _number
from pcgraph.spec.source import show

if TYPE_CHECKING:
    import networkx as nx

SHARE = Kind(
    "a number from 0 to 1",
    {"type": "number", "minimum": 0, "maximum": 1},
    lambda value: _number(value) and 0 <= value <= 1,
)
COUNTS = Kind(
    "a list of whole numbers above 0",
    {"type": "array", "items": COUNT.schema, "minItems": 1},
    lambda value: isinstance(value, list) and bool(value) and all(map(COUNT.accepts, value)),
)


def _shares(value: Any) -> bool:
    return isinstance(value, list) and all(map(SHARE.accepts, value))


SHARES = Kind(
    "a list of lists of numbers from 0 to 1",
    {"type": "array", "items": {"type": "array", "items": SHARE.schema}, "minItems": 1},
    lambda value: isinstance(value, list) and all(map(_shares, value)),
)

GENERATORS: Mapping[str, Mapping[str, Kind]] = {
    "barabasi_albert": {"n": COUNT, "m": COUNT},
    "erdos_renyi": {"n": COUNT, "p": SHARE},
    "grid_2d": {"m": COUNT, "n": COUNT},
    "newman_watts_strogatz": {"n": COUNT, "k": COUNT, "p": SHARE},
    "stochastic_block_model": {"sizes": COUNTS, "p": SHARES},
    "watts_strogatz": {"n": COUNT, "k": COUNT, "p": SHARE},
}
"""Generator (networkx calls it ``NAME_graph``, but for the block model) to its arguments."""
SIZED = frozenset({"barabasi_albert", "erdos_renyi", "newman_watts_strogatz", "watts_strogatz"})
"""Those that make a graph of ``n`` nodes, so that ``n`` may be left out where it is known."""


MOST_ARCS = 10_000_000
"""Edges of a graph that networkx is asked for: a few gigabytes, and a minute."""


class Graph(BaseModel):
    """A generator of networkx: `{NAME: {argument: value}}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    arguments: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not (isinstance(value, dict) and len(value) == 1):
            raise _error([((), f"expected {{NAME: {{argument: value}}}}, got {show(value)}", "")])
        ((name, arguments),) = value.items()
        kinds = GENERATORS.get(name)
        if kinds is None:
            raise _error([((name,), f"unknown generator '{name}'", closest(str(name), GENERATORS))])
        if not isinstance(arguments, dict):
            raise _error([((name,), f"expected a mapping of arguments, got {show(arguments)}", "")])
        faults: list[tuple[tuple[str, ...], str, str]] = []
        for key, given in arguments.items():
            if key not in kinds:
                message = f"unknown argument '{key}' of {name}"
                faults.append(((name, str(key)), message, closest(str(key), kinds)))
            elif not kinds[key].accepts(given):
                faults.append(((name, key), f"expected {kinds[key].expected}, got {show(given)}", ""))
        for key in kinds:
            if key not in arguments and not (key == "n" and name in SIZED):
                faults.append(((name,), f"{name} needs '{key}'", f"Write {{{name}: {{{key}: ...}}}}."))
        if faults:
            raise _error(faults)
        return {"name": name, "arguments": arguments}

    @model_serializer
    def _short(self) -> dict[str, Any]:
        return {self.name: self.arguments}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        generators = {
            name: {
                "type": "object",
                "additionalProperties": False,
                "required": [key for key in kinds if not (key == "n" and name in SIZED)],
                "properties": {key: kind.schema for key, kind in kinds.items()},
            }
            for name, kinds in GENERATORS.items()
        }
        return {
            "title": "Graph",
            "description": "A generator of networkx: `{NAME: {argument: value}}`.",
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
            "properties": generators,
        }

    def make(self, seed: int, n: int | None = None) -> nx.Graph:
        """The graph; its nodes are 0, 1, 2, ...

        Args:
            seed: Seed of the generator; the same graph comes again with the same networkx.
            n: Number of nodes where the spec gives none.

        Raises:
            SpecError: The arguments make no graph; the fault's path is relative to the field.
        """
        import random

        import networkx as nx

        arguments = dict(self.arguments)
        if self.name in SIZED and "n" not in arguments:
            if n is None:
                raise SpecError(Fault(f"{self.name} needs 'n'", (self.name,), "The number of nodes."))
            arguments["n"] = n
        count, arcs = self._size(arguments)
        if n is not None and count > n:
            message = f"the graph has {count} nodes for {n} units"
            raise SpecError(Fault(message, (self.name,), "They are as many."))
        if arcs > MOST_ARCS:
            message = f"a graph of about {arcs:.2g} edges; at most {MOST_ARCS:.2g}"
            raise SpecError(Fault(message, (self.name,)))
        # a generator of Python's own: networkx would import numpy to look whether it is one of numpy's
        source = {} if self.name == "grid_2d" else {"seed": random.Random(seed)}
        function = getattr(nx, self.name if self.name == "stochastic_block_model" else f"{self.name}_graph")
        try:
            made = function(**arguments, **source)
        except (nx.NetworkXException, ValueError, IndexError) as error:
            raise SpecError(Fault(f"networkx makes no such graph: {error}", (self.name,))) from None
        return nx.convert_node_labels_to_integers(made)

    def _size(self, arguments: Mapping[str, Any]) -> tuple[int, float]:
        """Nodes, and edges about, of the graph that is asked for."""
        if self.name == "grid_2d":
            count = arguments["m"] * arguments["n"]
            return count, 2.0 * count
        if self.name == "stochastic_block_model":
            sizes, shares = arguments["sizes"], arguments["p"]
            pairs = ((a * b, p) for a, row in zip(sizes, shares) for b, p in zip(sizes, row))  # noqa: B905
            return sum(sizes), sum(count * p for count, p in pairs) / 2
        count = arguments["n"]
        each = arguments["p"] * (count - 1) / 2 if self.name == "erdos_renyi" else arguments.get("m", 0)
        return count, count * float(each + arguments.get("k", 0))


def _error(faults: list[tuple[tuple[str, ...], str, str]]) -> PydanticCustomError:
    return PydanticCustomError("faults", "{text}", {"text": faults[0][1], "faults": faults})
