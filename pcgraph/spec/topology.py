"""A graph of areas that a generator of networkx draws, spelt out as nodes and edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from pcgraph.errors import SpecError
from pcgraph.spec.generators import Graph
from pcgraph.spec.model import Model
from pcgraph.spec.source import Document, Place
from pcgraph.spec.values import NodeName, Precision, Predictor, Seed, Shape, refuse

AREAS_LIMIT = 1000
"""Areas that a topology may have."""
Names = NodeName | Annotated[list[NodeName], Field(min_length=1)]


class Tie(Model):
    """Edges between areas and the other nodes: one from each source to each target."""

    source: Names
    """Node or nodes that predict; `areas` is all areas."""
    target: Names
    """Node or nodes that are predicted; `areas` is all areas."""
    predictor: Predictor = "auto"
    """Of each edge; see the edges'."""
    energy: Literal["gaussian", "categorical", "bernoulli"] = "gaussian"
    """Rule `energy`: what an error costs; see the edges'."""
    precision: Precision = 1.0
    """Rule `energy`: weight of the error; see the edges'."""
    feedback: bool = False
    """Whether the edges stand under `feedback`: then no state starts at their predictions."""


class Topology(Model):
    """Areas whose connections a random graph draws, spelt out when the spec is read.

    Each area becomes a node, `area0`, `area1`, ..., and each connection an edge. What is said of a node by
    edges of this section adds up to one prediction: they are in the bundle `into_NODE`.
    """

    graph: Graph
    """The graph; its nodes are the areas. The generators are listed under [Graph](#graph)."""
    seed: Seed = 0
    """Seed of the generator."""
    shape: Shape
    """Shape of each area's state. An area that stands under `nodes` has its own."""
    direction: Literal["both", "up"] = "both"
    """Which edges a connection makes: `both` ways, or `up` from the lower number to the higher alone,
    which leaves no cycle."""
    predictor: Predictor = Field(default=["Tanh", "Linear"], validate_default=True)
    """Of each edge between areas; see the edges'."""
    ties: list[Tie] = []
    """How the other nodes are tied to the areas."""

    @field_validator("graph", mode="after")
    @classmethod
    def _of_this_size(cls, graph: Graph) -> Graph:
        if graph.name in ("barabasi_albert", "erdos_renyi") or graph.name.endswith("watts_strogatz"):
            if "n" not in graph.arguments:
                raise refuse(f"{graph.name} needs 'n'", "The number of areas.")
            count = graph.arguments["n"]
        elif graph.name == "grid_2d":
            count = graph.arguments["m"] * graph.arguments["n"]
        else:
            count = sum(graph.arguments["sizes"])
        if count > AREAS_LIMIT:
            raise refuse(f"a graph of {count} areas; at most {AREAS_LIMIT}")
        return graph


def expand(document: Document) -> Document:
    """The document with its ``topology`` spelt out, where it has one that is sound.

    What comes of the topology stands, for messages, where it (or the tie) stands in the file.

    Raises:
        SpecError: networkx makes no such graph.
    """
    data, places = dict(document.data), dict(document.places)
    given = data.get("topology")
    lists = [data.get("edges", []), data.get("feedback", [])]
    if (
        given is None
        or not isinstance(data.get("nodes"), dict)
        or not all(isinstance(x, list) for x in lists)
    ):
        return document
    try:
        topology = Topology.model_validate(given)
        graph = topology.graph.make(topology.seed)
    except ValidationError:
        return document  # the schema's to refuse
    except SpecError as error:
        raise SpecError(replace(f, path=("topology", "graph", *f.path)) for f in error.faults) from None
    del data["topology"]
    here = places.get(("topology",))
    areas = [f"area{number}" for number in sorted(graph)]
    data["nodes"] = dict(data["nodes"])
    for name in areas:
        data["nodes"].setdefault(name, {"shape": list(topology.shape)})
        _place(places, ("nodes", name), here)
    for section in ("edges", "feedback"):
        edges = list(data.get(section, []))
        for edge, origin in _edges(topology, graph, areas, section == "feedback"):
            _place(places, (section, len(edges)), places.get(origin, here))
            edges.append(edge)
        if edges:
            data[section] = edges
    return Document(data, places)


def _place(places: dict[Any, Place], path: tuple[Any, ...], place: Place | None) -> None:
    if place is not None:
        places.setdefault(path, place)


def _edges(
    topology: Topology, graph: Any, areas: list[str], feedback: bool
) -> Iterator[tuple[dict[str, Any], tuple[str | int, ...]]]:
    """The edges of one section, each with the field that it comes from."""
    plain = topology.model_dump(mode="json")
    for one, other in sorted(tuple(sorted(pair)) for pair in graph.edges()) if not feedback else ():
        ways = (
            {(one, other): None} if topology.direction == "up" else {(one, other): None, (other, one): None}
        )
        for source, target in ways:
            yield _edge(areas[source], areas[target], {"predictor": plain["predictor"]}), ("topology",)
    for index, tie in enumerate(topology.ties):
        own = {name: plain["ties"][index][name] for name in ("predictor", "energy", "precision")}
        for source in _names(tie.source, areas) if tie.feedback == feedback else ():
            for target in _names(tie.target, areas):
                yield _edge(source, target, own), ("topology", "ties", index)


def _edge(source: str, target: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"source": source, "target": target, **fields, "bundle": f"into_{target}"}


def _names(given: str | list[str], areas: list[str]) -> list[str]:
    names = [given] if isinstance(given, str) else given
    return [name for one in names for name in (areas if one == "areas" else [one])]
