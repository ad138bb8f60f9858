"""The spec language: which nodes predict which, edge by edge or by a pattern."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Tag

from pcgraph.errors import closest
from pcgraph.spec.edge import Edge
from pcgraph.spec.model import Model
from pcgraph.spec.source import show
from pcgraph.spec.values import Count, refuse

PATTERNS = ("chain", "to_input", "dense", "none")
EDGE_FIELDS = (
    "source",
    "target",
    "predictor",
    "delay",
    "gain",
    "error",
    "energy",
    "precision",
    "bundle",
    "reach",
    "mask",
)


class Skip(Model):
    """Each node predicts the nodes that lie `skip` feedforward edges below it."""

    skip: Count
    """How many feedforward edges lie between; 1 is `chain`."""


def _feedback_form(value: Any) -> str:
    if isinstance(value, Edge):
        return "<edge>"
    if isinstance(value, Skip):
        return "<skip>"
    if isinstance(value, dict):
        edge = "source" in value or "target" in value
        return "<skip>" if not edge and any(map(_like_skip, value)) else "<edge>"
    return "<pattern>"


def _like_skip(key: object) -> bool:
    return closest(str(key), ("skip", *EDGE_FIELDS), limit=1) == "Did you mean 'skip'?"


def _like_edge_field(key: object) -> bool:
    return closest(str(key), EDGE_FIELDS).startswith("Did")


def _feedback_item(value: Any) -> Any:
    if isinstance(value, str):
        if value in PATTERNS:
            return value
        if value == "skip":
            raise refuse("'skip' needs a distance", "For example {skip: 2}.")
        raise refuse(f"unknown pattern '{value}'", closest(value, (*PATTERNS, "{skip: 2}")))
    if isinstance(value, dict):
        if any(key in ("source", "target", "skip") for key in value) or _feedback_form(value) == "<skip>":
            return value
        if value.keys().isdisjoint(PATTERNS) and any(_like_edge_field(key) for key in value):
            return value
    if isinstance(value, (Edge, Skip)):
        return value
    message = f"expected a pattern or an edge, got {show(value)}"
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in PATTERNS:
        raise refuse(message, f"Write '{next(iter(value))}' alone.")
    hint = "A pattern is chain, to_input, dense, none or {skip: 2}; an edge has 'source' and 'target'."
    raise refuse(message, hint)


PatternName = Literal["chain", "to_input", "dense", "none"]
Pattern = PatternName | Skip
FeedbackItem = Annotated[
    Annotated[PatternName, Tag("<pattern>")]
    | Annotated[Skip, Tag("<skip>")]
    | Annotated[Edge, Tag("<edge>")],
    Discriminator(_feedback_form),
    BeforeValidator(_feedback_item),
]
