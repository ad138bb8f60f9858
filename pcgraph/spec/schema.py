"""The spec language: what may stand in a spec file, as pydantic models.

The descriptions are the reference: ``pcgraph schema`` and docs/ are made from them. What one field
can tell by itself is checked here; what several fields must agree on is in checks.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PositiveInt,
    PrivateAttr,
    Strict,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from pcgraph.errors import Fault, FieldPath, closest
from pcgraph.spec.mask import Mask
from pcgraph.spec.model import Model as Model  # reference.py and others know it from here
from pcgraph.spec.source import Source, show
from pcgraph.spec.start import Start
from pcgraph.spec.topology import Topology
from pcgraph.spec.training import Moment, Train, Tune
from pcgraph.spec.values import (
    Argument,
    Delay,
    Finite,
    NodeName,
    NonNegative,
    Positive,
    Precision,
    Shape,
    Share,
    model_name,
    refuse,
    sources_form,
    spec_name,
    weights_name,
)
from pcgraph.spec.values import Predictor as Predictor  # graph.py and others know it from here

INPUT = "input"
"""The node that is the image, in a network with a backbone."""
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
EnergyName = Literal["gaussian", "categorical", "bernoulli"]


class Preprocess(Model):
    """How a photograph becomes the network's input: resize, centre crop, normalise."""

    resize: PositiveInt | None = None
    """Length of the shorter side in pixels before the crop to `input`. Left out: `input`'s own."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How pixels are interpolated when the photograph is resized (antialiased)."""
    mean: Annotated[tuple[Finite, ...], Strict(False), Field(min_length=1)] = (0.485, 0.456, 0.406)
    """Subtracted from each channel; pixels run from 0 to 1."""
    std: Annotated[tuple[Positive, ...], Strict(False), Field(min_length=1)] = (0.229, 0.224, 0.225)
    """Each channel is divided by it."""


class Backbone(Model):
    """The pretrained network whose graph is read."""

    model: Annotated[str, AfterValidator(model_name)] | None = None
    """`torchvision:NAME`, `timm:NAME`, `pcgraph:digits_cnn`, or `python:PACKAGE.MODULE:NAME` (needs
    trust). Left out: the program that builds the network hands the model over, `build(spec, model=...)`."""
    weights: Annotated[str | None, BeforeValidator(weights_name)] = None
    """`DEFAULT` or another name of the model's library; a `.safetensors` or `.pth` file; or
    `package:PACKAGE/FILE`, a file inside an installed Python package. Left out: random weights."""
    match: Literal["name", "order"] = "name"
    """How the tensors of a weight file find their place: by name, or by their order in the file
    (for the same network written by another library)."""
    input: Shape = (3, 224, 224)
    """Shape of one input, without the batch."""
    arguments: dict[str, Argument] = {}
    """Keyword arguments for the model's constructor, such as `num_classes`."""
    preprocess: Preprocess | None = None
    """For image files. Left out: what the weights come with, or ImageNet's customary values."""


class Node(Model):
    """A place where a state lives: in the backbone (`module`), or free-standing (`shape`)."""

    module: Annotated[str, Field(min_length=1)] | None = None
    """Qualified name in the backbone, as `pcgraph trace MODEL` lists them."""
    shape: Shape | None = None
    """Shape of the state without the batch, for a node that is not in the backbone."""
    delay: Delay | None = None
    """Delay in steps of the backbone's prediction of this node. Left out: `schedule.order` says."""
    energy: EnergyName = "gaussian"
    """Rule `energy`: what an error of the backbone's prediction of this node costs; see the edges'."""
    precision: Precision = 1.0
    """Rule `energy`: the precision of the backbone's prediction of this node; see the edges'."""

    @model_validator(mode="before")
    @classmethod
    def _module_shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"module": value}
        if isinstance(value, list):
            message = f"expected a module's name or a mapping, got {show(value)}"
            raise refuse(message, "Write {shape: [...]}.")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Node:
        if self.module is not None and self.shape is not None:
            raise refuse("a node has either 'module' or 'shape', not both", "A module's shape is worked out.")
        if self.module is None and self.shape is None:
            hint = "'module' is a place in the backbone, 'shape' makes a node outside it."
            raise refuse("a node needs 'module' or 'shape'", hint)
        for name in ("delay", "energy", "precision") if self.shape is not None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                message = f"'{name}' of a node is for nodes in the backbone"
                article = "an" if name == "energy" else "a"
                raise refuse(message, f"Give the edges into this node {article} '{name}'.")
        return self

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        fields: dict[str, Any] = {"module": self.module, "shape": self.shape and list(self.shape)}
        fields |= {name: getattr(self, name) for name in ("delay", "energy", "precision")}
        if isinstance(self.precision, tuple):
            fields["precision"] = list(self.precision)
        given = {k: v for k, v in fields.items() if v != type(self).model_fields[k].default}
        return self.module if self.module is not None and len(given) == 1 else given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        fields = handler.resolve_ref_schema(handler(schema))
        fields.pop("title", None)
        text = fields.pop("description")
        own = [{"required": [field]} for field in ("delay", "energy", "precision")]
        alone = [{"required": ["module"]}, {"required": ["shape"], "not": {"anyOf": own}}]
        name = {"type": "string", "minLength": 1, "description": "Short for `{module: ...}`."}
        return {"title": "Node", "description": text, "anyOf": [name, {**fields, "oneOf": alone}]}


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
    error: NonNegative | None = None
    """Rule `predify`: how strongly the prediction error moves the sources. Left out: each source's
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


class Skip(Model):
    """Each node predicts the nodes that lie `skip` feedforward edges below it."""

    skip: PositiveInt
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


class NodeGains(Model):
    """Rule `predify`, for one node; what is left out is taken from the values for all nodes."""

    feedforward: Share | None = None
    """beta of this node."""
    feedback: Share | None = None
    """lambda of this node."""
    error: NonNegative | None = None
    """alpha of this node."""


class PredifyDynamics(Model):
    """Leaky integration of feedforward drive, feedback prediction and error gradient."""

    rule: Literal["predify"] = "predify"
    """`predify`, the rule where none is named."""
    feedforward: Share = 0.3
    """beta: the share of the state that the feedforward prediction replaces at each step."""
    feedback: Share = 0.3
    """lambda: the share that the feedback predictions replace; beta + lambda is at most 1."""
    error: NonNegative = 0.01
    """alpha: how far the state moves down the gradient of the errors that it makes below."""
    gradient: Literal["sum", "mean", "normalized"] = "normalized"
    """Scale of that gradient: `sum` of half the squared errors; their `mean` (depends on the batch
    size); or `normalized`, 2 / sqrt(C) of the sum, with C the edge's `reach`."""
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
    cosine: PositiveInt | None = None
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
    steps: Annotated[int, Field(ge=0)] = 10
    """Steps of a run."""
    initial: Literal["feedforward", "zeros", "normal", "amortised"] = "feedforward"
    """States at step 0: what the plain network computes, zeros, standard normal noise, or learned guesses
    (`amortised`: those of the edges under `start`; nodes without one start as with `feedforward`)."""
    tolerance: Positive | None = None
    """Stop early once no state changes by more than this share of its norm in a step."""


class Spec(Model):
    """A whole spec file.

    `load_spec` and `parse_spec` make one, and check what its fields must agree on.
    """

    name: Annotated[str, AfterValidator(spec_name)]
    """What the network is called; names run folders and figures."""
    extends: str | None = None
    """Another spec file, relative to this one: its fields hold unless this file sets them. Mappings
    are merged, lists and single values replaced; another `dynamics.rule` replaces all `dynamics`."""
    backbone: Backbone | None = None
    """Left out: the network has no backbone, and `nodes` and `edges` say everything."""
    nodes: Annotated[dict[NodeName, Node], Field(min_length=1)]
    """The states, by their names (Python identifiers). `name: QUALIFIED.NAME` is short for
    `name: {module: QUALIFIED.NAME}`. Without a backbone the first node is the one that receives the
    images of a run."""
    topology: Topology | None = None
    """Areas that a random graph connects; they are added to `nodes`, `edges` and `feedback`."""
    edges: list[Edge] = []
    """Feedforward edges besides the backbone's own."""
    feedback: list[FeedbackItem] = []
    """Patterns, edges or both; an edge replaces the same edge of a pattern. `chain`: each node
    predicts the nodes that feed it directly; `to_input`: each predicts the input; `{skip: k}`: the
    nodes k edges below; `dense`: all nodes below; `none`."""
    start: list[Start] = []
    """First guesses of the states, with `schedule.initial: amortised`: at most one for each node, without
    a cycle. They are no part of the graph, its energy or its dynamics; they learn what inference settles
    on, by the rules `il` and `ipc`."""
    dynamics: Dynamics = PredifyDynamics()
    """The rule that moves the states."""
    schedule: Schedule = Schedule()
    """Order, steps and start."""
    weights: str | None = None
    """Safetensors file with the predictors' weights: a path relative to this file, or
    `package:PACKAGE/FILE`, a file inside an installed Python package."""
    train: Train | None = None
    """What `pcgraph train` does. Left out: all as below."""
    tune: Tune | None = None
    """What `pcgraph tune` does. Left out: all as below."""

    _source: Source = PrivateAttr(default_factory=Source)

    @field_validator("feedback", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if value is None:
            raise refuse(f"expected a pattern or a list, got {show(value)}", "Write 'none' for no feedback.")
        return value if isinstance(value, list) else [value]

    def __eq__(self, other: object) -> bool:
        """Two specs are equal when they say the same, wherever they were read from."""
        return self.__dict__ == other.__dict__ if isinstance(other, Spec) else NotImplemented

    @property
    def folder(self) -> Path:
        """The folder that relative weight files start from; the current one without a file."""
        return self._source.folder

    def locate(self, path: FieldPath) -> str:
        """`file:line:column` of a field, or of the nearest field around it; empty without a file."""
        return self._source.locate(path)

    def located(self, faults: Iterable[Fault]) -> list[Fault]:
        """The faults with their places in this spec's file(s), where they have none yet."""
        return [fault if fault.where else replace(fault, where=self.locate(fault.path)) for fault in faults]

    def dump(self) -> dict[str, Any]:
        """The spec as plain values in their short forms, without what is default.

        Weight files stay relative to `folder`.
        """
        data: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True, exclude={"extends"})
        if len(self.feedback) == 1 and not isinstance(self.feedback[0], Edge):
            data["feedback"] = data["feedback"][0]
        if "dynamics" in data:
            data["dynamics"] = {"rule": self.dynamics.rule, **data["dynamics"]}
        return data
