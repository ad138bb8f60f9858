"""The spec language: the rule that moves the states."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pcgraph.errors import closest
from pcgraph.spec.model import Model
from pcgraph.spec.source import show
from pcgraph.spec.training import Moment
from pcgraph.spec.values import Count, ErrorGain, NodeName, NonNegative, Positive, Share, refuse


class NodeGains(Model):
    """Rule `predify`, for one node; what is left out is taken from the values for all nodes."""

    feedforward: Share | None = None
    """beta of this node."""
    feedback: Share | None = None
    """lambda of this node."""
    error: ErrorGain | None = None
    """alpha of this node, or `auto`."""


class Sharing(Model):
    """Rule `predify`: what the edges divide among themselves, and so what two wirings have in common.

    Edges that set their own `gain` or `error` take no part.
    """

    feedback: Literal["target", "edge"] = "target"
    """lambda of a node: `target`: divided evenly by the feedback predictions that it receives, so that its
    memory does not depend on their number; or `edge`: each draws with all of it."""
    error: Literal["source", "edge"] = "edge"
    """alpha of a node: `source`: divided evenly by the feedback edges out of it; or `edge`: each moves it
    with all of it, so that a node that predicts more is moved more."""


class PredifyDynamics(Model):
    """Leaky integration of feedforward drive, feedback prediction and error gradient."""

    rule: Literal["predify"] = "predify"
    """`predify`, the rule where none is named."""
    feedforward: Share = 0.3
    """beta: the share of the state that the feedforward prediction replaces at each step."""
    feedback: Share = 0.3
    """lambda: the share that the feedback predictions replace. All that a node receives, edges with their
    own `gain` counted, replaces at most 1."""
    error: ErrorGain = 0.01
    """alpha: how far the state moves down the gradient of the errors that it makes below. `auto`: for each
    node a quarter of what it bears without running away, found for the weights with which it is built."""
    gradient: Literal["sum", "mean", "normalized"] = "normalized"
    """Scale of that gradient: `sum` of half the squared errors; their `mean` (depends on the batch
    size); or `normalized`, 2 / sqrt(C) of the sum, with C the edge's `reach`."""
    share: Sharing = Sharing()
    """What is divided among edges: lambda by those into a node (the default), alpha by those out of it."""
    allow_negative_memory: bool = False
    """Whether more than the whole state of a node may be replaced at each step, which turns the sign of
    what is left of it. Left out: such gains are refused."""
    nodes: dict[NodeName, NodeGains] = {}
    """Other values for single nodes."""


class NodeRate(Model):
    """Rule `energy`, for one node."""

    rate: NonNegative
    """Step size of this node."""


class Decay(Model):
    """Rule `energy`: how all rates fall in the course of a run: one of the three. t counts from 0."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    exponential: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """The rates at step t are multiplied by this number to the power of t."""
    inverse: Positive | None = None
    """They are divided by 1 + t / `inverse`: halved after so many steps."""
    cosine: Count | None = None
    """They follow half a cosine, down to zero after so many steps."""

    @model_validator(mode="after")
    def _one(self) -> Decay:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            shown = " and ".join(f"'{name}'" for name in given) if given else "none"
            raise refuse(f"a decay has one of exponential, inverse, cosine, got {shown}")
        return self

    def factor(self, step: int) -> float:
        """What the rates are multiplied by in the step after ``step`` others."""
        if self.exponential is not None:
            return float(self.exponential**step)
        if self.inverse is not None:
            return 1 / (1 + step / self.inverse)
        assert self.cosine is not None
        return 0.5 * (1 + math.cos(math.pi * min(step / self.cosine, 1)))


class EnergyDynamics(Model):
    """Gradient descent of the states on the sum of the energies, precision * error^2 / 2, of all edges."""

    rule: Literal["energy"]
    """`energy`."""
    rate: NonNegative = 0.1
    """Step size."""
    nodes: dict[NodeName, NodeRate] = {}
    """Other values for single nodes."""
    optimizer: Literal["gradient", "momentum", "adam"] = "gradient"
    """How the states follow the gradient: by the plain step, with momentum, or as in Adam."""
    betas: Annotated[tuple[Moment, Moment], Strict(False)] = (0.9, 0.999)
    """How long the gradient is remembered by `momentum` and `adam`, and its square by `adam`."""
    decay: Decay | None = None
    """How the rates fall in the course of a run. Left out: they stay."""
    temperature: NonNegative = 0.0
    """T of Langevin noise: each step adds normal noise of variance 2 rate T, so that the states of a long
    run are samples of exp(-energy / T) (at rates well below the stability limit)."""

    @model_validator(mode="after")
    def _fits(self) -> EnergyDynamics:
        if self.optimizer == "gradient" and self.betas != type(self).model_fields["betas"].default:
            raise refuse("'betas' belong to optimizers 'momentum' and 'adam'", "Name one as 'optimizer'.")
        if self.optimizer != "gradient" and self.temperature > 0:
            message = f"'temperature' needs optimizer 'gradient', got '{self.optimizer}'"
            raise refuse(message, "With a memory the noise would not sample from the energy.")
        return self


def _dynamics_form(value: Any) -> str:
    rule = value.get("rule") if isinstance(value, dict) else getattr(value, "rule", None)
    return "<energy>" if rule == "energy" else "<predify>"


def _known_rule(value: Any) -> Any:
    if isinstance(value, dict) and "rule" in value and value["rule"] not in ("predify", "energy"):
        rule = value["rule"]
        faults = [(("rule",), f"unknown rule {show(rule)}", closest(str(rule), ("predify", "energy")))]
        raise PydanticCustomError("faults", "unknown rule", {"faults": faults})
    return value


Dynamics = Annotated[
    Annotated[PredifyDynamics, Tag("<predify>")] | Annotated[EnergyDynamics, Tag("<energy>")],
    Discriminator(_dynamics_form),
    BeforeValidator(_known_rule),
]
