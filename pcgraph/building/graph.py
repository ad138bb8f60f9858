"""A spec and what the trace found become a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.graph import Edge, Kind, Node, PCGraph, edge_name
from pcgraph.spec.edge import Edge as EdgeSpec
from pcgraph.spec.layout import Layout, convention, named
from pcgraph.spec.node import Node as NodeSpec
from pcgraph.spec.schema import INPUT, Spec
from pcgraph.spec.wiring import wire


def assemble(
    spec: Spec,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    reads: Mapping[str, Sequence[str]] | None = None,
    layouts: Mapping[str, Layout | None] | None = None,
) -> PCGraph:
    """Put a spec and what the trace found into one graph.

    Args:
        spec: The spec.
        shapes: Shapes of the image (``input``) and of each node in the backbone, without the batch.
        reads: For each node in the backbone, the states that its feedforward prediction reads.
        layouts: For the image and each node in the backbone, what its operations say of its dimensions. Left
            out: nobody asks.

    Raises:
        SpecError: See `PCGraph`; or a node's ``layout`` does not fit its shape or its operations.
    """
    shapes, reads, layouts = dict(shapes or {}), dict(reads or {}), dict(layouts or {})
    feedforward_delay = 0 if spec.schedule.order == "sweep" else 1
    nodes = [Node(INPUT, shapes[INPUT], layout=layouts.get(INPUT))] if INPUT in shapes else []
    edges = []
    below: dict[str, list[str]] = {name: list(reads.get(name, ())) for name in spec.nodes}
    for name, place in spec.nodes.items():
        shape = place.shape or shapes[name]
        nodes.append(Node(name, shape, place.module, _layout(name, place, shape, layouts.get(name))))
        if name in reads:
            sources = tuple(reads[name])
            delay = feedforward_delay if place.delay is None else place.delay
            own = edge_name(sources, name)
            edges.append(
                Edge(
                    own,
                    sources,
                    name,
                    "feedforward",
                    None,
                    delay,
                    bundle=own,
                    energy=place.energy,
                    precision=place.precision,
                    path=("nodes", name),
                )
            )
    for index, written in enumerate(spec.edges):
        edges.append(_explicit(written, "feedforward", feedforward_delay, ("edges", index)))
        known = below.setdefault(written.target, [])  # the image may be a target too
        known += [name for name in written.sources if name not in known]
    edges += [_explicit(written, "feedback", 1, path) for written, path in wire(spec, below)]
    starts = []
    for index, start in enumerate(spec.start):
        own = edge_name(start.sources, start.target)
        path = ("start", index)
        starts.append(
            Edge(own, start.sources, start.target, "feedforward", start.predictor, 0, bundle=own, path=path)
        )
    return PCGraph(nodes, edges, starts)


def _layout(name: str, place: NodeSpec, shape: tuple[int, ...], found: Layout | None) -> Layout | None:
    """What the spec says of a node's dimensions, or else its operations, or without any the convention."""
    if place.layout is None:
        return found if place.module is not None else convention(shape)
    said = named(place.layout, shape)
    problem = ""
    if len(shape) < 2 or (place.layout == "tokens" and len(shape) != 2):
        problem = f"a state of shape {shape} cannot be '{place.layout}'"
    elif found is not None and (said.channels, said.parts) != (found.channels, found.parts):
        problem = f"'{name}' of shape {shape} is not '{place.layout}', as the model's operations tell"
    if problem:
        raise SpecError(Fault(problem, ("nodes", name, "layout"), "Leave 'layout' out."))
    return said


def _explicit(written: EdgeSpec, kind: Kind, default_delay: int, path: FieldPath) -> Edge:
    name = edge_name(written.sources, written.target)
    return Edge(
        name=name,
        sources=written.sources,
        target=written.target,
        kind=kind,
        predictor=written.predictor,
        delay=default_delay if written.delay is None else written.delay,
        bundle=written.bundle or name,
        gain=written.gain,
        error=written.error,
        energy=written.energy,
        precision=written.precision,
        reach=written.reach,
        mask=written.mask,
        path=path,
    )
