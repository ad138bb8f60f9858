"""Which fields of a spec may differ from arm to arm, and which would change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.graph import PCGraph
from pcgraph.spec import Edge, Spec
from pcgraph.study.file import Study

EDGE_FIELDS = ("delay", "gain", "error", "predictor", "mask")
"""Fields of a grid, or of a search, that mean edges."""
GROUND = ("name", "extends", "backbone", "nodes", "edges", "topology")
"""What all arms have in common, and none can change."""
FEEDBACK_GAINS = ("feedback", "error")
NODE_GAINS = ("feedforward", *FEEDBACK_GAINS)


def check_changeable(study: Study, field: Sequence[str], path: FieldPath) -> None:
    """Refuse a field of the spec that cannot differ from arm to arm.

    Raises:
        SpecError: It cannot; at ``path``.
    """
    top, name = field[0], ".".join(field)
    same, message, hint = f"'{name}' is the same in all arms", "", ""
    if top in GROUND:
        hint = "Make it the base of another study: it changes what is predicted, not by whom."
        message = same
    elif top in ("train", "tune") and getattr(study, top) is None:
        hint = f"Write '{top}: ...' at the top level of the study."
        message = f"'{name}' changes nothing: this study has no '{top}'"
    elif top in ("train", "tune") and field[1:] in (["data"], ["validation"]):
        message, hint = same, f"Write it under '{top}' of the study."
    elif top == "weights" and study.train is not None:
        hint = "Leave out 'train', or make it another study."
        message = "weights are given to an arm of a study that trains"
    if message:
        raise SpecError(study.located(Fault(message, path, hint)))


def check_moves(
    study: Study, graph: PCGraph, spec: Spec, edges: Sequence[Edge], fields: Iterable[str], path: FieldPath
) -> None:
    """Refuse a field that would change nothing.

    All nodes have values of their own for it; or it weighs feedback, and there is none.

    Args:
        study: The file.
        graph: The network without feedback.
        spec: With the field's new value.
        edges: Its feedback.
        fields: What is given new values.
        path: Where these fields stand.

    Raises:
        SpecError: There is one; below ``path``.
    """
    own = getattr(spec.dynamics, "nodes", {})
    moved = [node for node in graph.nodes if node != graph.receiver]
    for field in fields:
        section, _, name = field.partition(".")
        if section != "dynamics" or name not in NODE_GAINS:
            continue
        if not edges and name in FEEDBACK_GAINS:
            message = f"there is no feedback, so '{field}' changes nothing"
            raise SpecError(study.located(Fault(message, (*path, field), "Take an arm with feedback.")))
        if all(node in own and getattr(own[node], name) is not None for node in moved):
            message = f"every node has its own '{name}', so '{field}' changes nothing"
            fault = Fault(message, (*path, field), "Write 'reset: [dynamics.nodes]'.")
            raise SpecError(study.located(fault))
