"""The spec language: a prediction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from pcgraph.spec.mask import Mask
from pcgraph.spec.model import Model
from pcgraph.spec.values import (
    Delay,
    ErrorGain,
    NodeName,
    NonNegative,
    Positive,
    Precision,
    Predictor,
    sources_form,
)

EnergyName = Literal["gaussian", "categorical", "bernoulli"]


class Edge(Model):
    """A prediction: what the sources say about the target."""

    source: Annotated[
        Annotated[NodeName, Tag("<one>")] | Annotated[list[NodeName], Field(min_length=1), Tag("<several>")],
        Discriminator(sources_form),
    ]
    """Node or nodes that predict. Several sources are joined along their first dimension, or handed
    to a `python:` predictor as separate arguments."""
    target: NodeName
    """Node that is predicted."""
    predictor: Predictor = "auto"
    """`auto`; a list of layers, each a class name of `torch.nn` or `{name: {argument: value}}`, where
    sizes left out are worked out from the two nodes' shapes; or `python:PACKAGE.MODULE:NAME` (needs
    trust): a module, or a function of the source shape(s) and the target shape that makes one."""
    delay: Delay | None = None
    """How many steps ago the sources are read; 0 reads states already updated in this step.
    Left out: `schedule.order` says."""
    gain: NonNegative | None = None
    """Rule `predify`: how strongly the target is drawn to this prediction. Left out: the target's
    `feedforward` or `feedback`, shared evenly by the edges of that kind that set no gain."""
    error: ErrorGain | None = None
    """Rule `predify`: how strongly the prediction error moves the sources, or `auto`. Left out: each source's
    `error` for a feedback edge, 0 for a feedforward edge."""
    energy: EnergyName = "gaussian"
    """Rule `energy`: what an error costs. `gaussian`: half its square. `categorical`: cross-entropy, the
    prediction being logits along the target's first dimension and the target probabilities.
    `bernoulli`: the same for units that are on or off. The last two have no lowest point in a target
    that is free: clamp it, or give it the `rate` 0."""
    precision: Precision = 1.0
    """Rule `energy`: weight of the error in the energy (an inverse variance): a number; a list, one
    number for each entry of the target's first dimension; or `learned`, one for each unit, which
    `learn` moves with the weights. The last two are for `gaussian` alone."""
    bundle: Annotated[str, Field(min_length=1)] | None = None
    """Edges into one target with the same bundle are summed into one prediction, with one error."""
    reach: Positive | None = None
    """C of gradient `normalized`: how many predicted units depend on one unit of the source.
    Left out: it is counted."""
    mask: Mask | None = None
    """Which weights of the predictor there are; it needs one layer with a matrix (`Linear`, `Conv2d`,
    `ConvTranspose2d`; of convolutions the channels are masked). The others are zero and stay so."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The source nodes, always as a tuple."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)
