"""What of a spec is sound by itself, so that one mistake does not hide the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from pcgraph.errors import FieldPath
from pcgraph.spec.backbone import Backbone
from pcgraph.spec.dynamics import Dynamics, EnergyDynamics, PredifyDynamics
from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import FeedbackItem, Pattern
from pcgraph.spec.node import Node
from pcgraph.spec.schedule import Schedule
from pcgraph.spec.start import Start
from pcgraph.spec.training import Train

_DYNAMICS: TypeAdapter[PredifyDynamics | EnergyDynamics] = TypeAdapter(Dynamics)
_FEEDBACK: TypeAdapter[Pattern | Edge] = TypeAdapter(FeedbackItem)


@dataclass(frozen=True)
class PlacedEdge:
    """An explicit edge and the field that it stands in."""

    edge: Edge
    path: FieldPath
    kind: Literal["feedforward", "feedback"]

    @property
    def name(self) -> str:
        """``source->target``."""
        return f"{'+'.join(self.edge.sources)}->{self.edge.target}"


@dataclass
class Parts:
    """What of a spec is sound by itself, so that one mistake does not hide the others."""

    names: list[str]
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[PlacedEdge] = field(default_factory=list)
    patterns: list[tuple[Pattern, FieldPath]] = field(default_factory=list)
    starts: dict[int, Start] = field(default_factory=dict)
    has_starts: bool = False
    has_backbone: bool = False
    has_edges: bool = False
    backbone: Backbone | None = None
    dynamics: PredifyDynamics | EnergyDynamics | None = None
    schedule: Schedule | None = None
    train: Train | None = None
    tunes: bool = False


def _valid(model: type[BaseModel] | TypeAdapter[Any], value: Any) -> Any:
    try:
        return model.validate_python(value) if isinstance(model, TypeAdapter) else model.model_validate(value)
    except ValidationError:
        return None


def sound_parts(data: dict[str, Any]) -> Parts:
    """The parts of a spec's plain values."""
    nodes = data.get("nodes")
    nodes = nodes if isinstance(nodes, dict) else {}
    parts = Parts([str(name) for name in nodes])
    parts.nodes = {name: node for name, value in nodes.items() if (node := _valid(Node, value))}
    parts.has_backbone = data.get("backbone") is not None
    parts.backbone = _valid(Backbone, data.get("backbone"))
    parts.dynamics = _valid(_DYNAMICS, data.get("dynamics", {}))
    parts.schedule = _valid(Schedule, data.get("schedule", {}))
    parts.train = _valid(Train, data.get("train", {}))
    parts.tunes = data.get("tune") is not None
    edges = data.get("edges", [])
    feedback = data.get("feedback", [])
    starts = data.get("start", [])
    parts.has_starts = bool(starts)
    for index, value in enumerate(starts if isinstance(starts, list) else []):
        if start := _valid(Start, value):
            parts.starts[index] = start
    parts.has_edges = bool(edges)
    for index, value in enumerate(edges if isinstance(edges, list) else []):
        if edge := _valid(Edge, value):
            parts.edges.append(PlacedEdge(edge, ("edges", index), "feedforward"))
    for index, value in enumerate(feedback if isinstance(feedback, list) else [feedback]):
        path: FieldPath = ("feedback", index) if isinstance(feedback, list) else ("feedback",)
        item = _valid(_FEEDBACK, value)
        if isinstance(item, Edge):
            parts.edges.append(PlacedEdge(item, path, "feedback"))
        elif item is not None:
            parts.patterns.append((item, path))
    return parts
