"""Predictors and first guesses that are imported code, which may keep something between their calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from pcgraph.network import PCNetwork
from pcgraph.simulation.operations import UnfitError
from pcgraph.tracing.snapshot import Snapshot


class KeepsError(UnfitError):
    """A predictor keeps something; compiled, it would have what it had then for ever."""


def foreign_predictors(network: PCNetwork) -> nn.ModuleDict:
    """The predictors that are imported code, by edge, and the first guesses."""
    edges, starts = network.graph.edges.values(), network.graph.starts.values()
    predictors = {one.name: network.predictors[one.name] for one in edges if one.is_foreign}
    guesses = {f"start {one.name}": network.starts[one.name] for one in starts if one.is_foreign}
    return nn.ModuleDict(predictors | guesses)


def refuse_changes(foreign: nn.ModuleDict, before: Snapshot) -> None:
    """Make sure that they are as they were.

    Raises:
        KeepsError: One is not.
    """
    changed = before.changed([*foreign.modules()])
    if changed:
        raise KeepsError(f"a predictor keeps something between its calls: '{changed}'")


@contextmanager
def traced(foreign: nn.ModuleDict) -> Iterator[None]:
    """What they keep of stand-ins in the block is forgotten, and refused.

    Raises:
        KeepsError: They keep something.
    """
    before = Snapshot(foreign)
    try:
        yield
    except Exception:
        refuse_changes(foreign, before)  # stand-ins that were kept fail in words of their own
        raise
    else:
        refuse_changes(foreign, before)
    finally:
        before.restore()
