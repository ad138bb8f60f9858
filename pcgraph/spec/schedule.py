"""The spec language: when what is updated, and for how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Strict, Tag

from pcgraph.spec.model import Model
from pcgraph.spec.values import NodeName, Positive


def _order_form(value: Any) -> str:
    return "<blocks>" if isinstance(value, (list, tuple)) else "<word>"


_Block = Annotated[tuple[NodeName, ...], Strict(False), Field(min_length=1)]
Order = Annotated[
    Annotated[Literal["synchronous", "sweep"], Tag("<word>")]
    | Annotated[tuple[_Block, ...], Strict(False), Field(min_length=1), Tag("<blocks>")],
    Discriminator(_order_form),
]


class Schedule(Model):
    """When what is updated, and for how long."""

    order: Order = "synchronous"
    """`synchronous`: every node moves at once (all delays 1). `sweep`: feedforward edges read states
    already updated in this step (delay 0), feedback edges the last step's (delay 1). A list of lists of
    nodes: the blocks move one after the other, each on the newest states (edges of delay 1 read them);
    nodes that stand in no block move last."""
    steps: Annotated[int, Field(ge=0, le=10**9)] = 10
    """Steps of a run."""
    initial: Literal["feedforward", "zeros", "normal", "amortised"] = "feedforward"
    """States at step 0: what the plain network computes, zeros, standard normal noise, or learned guesses
    (`amortised`: those of the edges under `start`; nodes without one start as with `feedforward`)."""
    tolerance: Positive | None = None
    """Stop early once no state changes by more than this share of its norm in a step."""
