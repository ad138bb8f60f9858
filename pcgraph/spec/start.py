"""Learned first guesses of the states: the spec's list `start`, and what its edges must agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from pcgraph.errors import Fault, FieldPath, suggestions
from pcgraph.spec.model import Model
from pcgraph.spec.values import NodeName, Predictor, sources_form


class Start(Model):
    """A first guess of a state, which learns to predict what inference settles on."""

    source: Annotated[
        Annotated[NodeName, Tag("<one>")] | Annotated[list[NodeName], Field(min_length=1), Tag("<several>")],
        Discriminator(sources_form),
    ]
    """Node or nodes that the guess is made from; see the edges'."""
    target: NodeName
    """Free-standing node that starts at the guess, where its sources lead back to what is given."""
    predictor: Predictor = "auto"
    """Makes the guess; see the edges'."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The source nodes, always as a tuple."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)


def start_faults(starts: Mapping[int, Start], nodes: Sequence[str], driven: Sequence[str]) -> Iterator[Fault]:
    """What is wrong between the start edges, and with the nodes that they name.

    Args:
        starts: Those that are sound by themselves, by their places in the list.
        nodes: All nodes; empty when they are not known.
        driven: Those of the backbone, its image included.
    """
    first: dict[str, int] = {}
    known, suggest = set(nodes), suggestions(nodes)
    for index, start in starts.items():
        path: FieldPath = ("start", index)
        named: list[tuple[str, FieldPath]] = [(start.target, (*path, "target"))]
        for place, name in enumerate(start.sources):
            here = (*path, "source") if isinstance(start.source, str) else (*path, "source", place)
            named.append((name, here))
            if name in start.sources[:place]:
                yield Fault(
                    f"'{name}' is named twice as a source of one edge", here, "Remove one of the two."
                )
        for name, here in named:
            if known and name not in known:
                yield Fault(f"unknown node '{name}'", here, suggest(name))
        if start.target in driven:
            message = f"'{start.target}' starts at what the backbone computes"
            yield Fault(
                message, (*path, "target"), "'start' is for free-standing nodes: those with a 'shape'."
            )
        if start.target in first:
            message = f"'{start.target}' has a start already, start[{first[start.target]}]"
            yield Fault(message, path, "Remove one of the two, or give one of them several sources.")
        first.setdefault(start.target, index)
    try:
        TopologicalSorter({name: starts[index].sources for name, index in first.items()}).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        last = max(first[name] for name in cycle)
        message = f"start edges form the cycle {' -> '.join(cycle)}; no node of it can start first"
        yield Fault(message, ("start", last), "Remove one of them.")
