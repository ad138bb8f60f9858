"""The spec's sections `train` and `tune`: how the weights and the dynamics of a network learn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
    model_validator,
)

from pcgraph.spec.model import Model
from pcgraph.spec.values import Count, NodeName, NonNegative, Positive, Share, refuse

OptimizerName = Literal["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop", "SGD"]
ADAMS = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")
TAKES: dict[str, tuple[str, ...]] = {
    "weight_decay": (*ADAMS, "Adagrad", "RMSprop", "SGD"),
    "momentum": ("RMSprop", "SGD"),
    "nesterov": ("SGD",),
    "betas": ADAMS,
    "eps": (*ADAMS, "Adagrad", "RMSprop"),
}
"""Which optimizers take an argument."""
Precision = Literal["float32", "bfloat16", "float16"]
Moment = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Optimizer(Model):
    """How a gradient moves the weights: an optimizer of `torch.optim`."""

    name: OptimizerName = "Adam"
    """Its class name."""
    lr: Positive = 0.001
    """Learning rate."""
    weight_decay: NonNegative | None = None
    """How strongly the weights are drawn to zero. This and all below, left out: torch's own default."""
    momentum: Moment | None = None
    """Momentum, for `SGD` and `RMSprop`."""
    nesterov: bool | None = None
    """Nesterov's momentum, for `SGD`."""
    betas: Annotated[tuple[Moment, Moment], Strict(False)] | None = None
    """Decay of the running means of the gradient and of its square, for those named after Adam."""
    eps: Positive | None = None
    """Added to the denominator, for all but `SGD`."""

    @model_validator(mode="after")
    def _takes(self) -> Optimizer:
        for argument, names in TAKES.items():
            if getattr(self, argument) is not None and self.name not in names:
                hint = f"It belongs to {', '.join(names)}."
                raise refuse(f"{self.name} takes no '{argument}'", hint)
        return self

    @property
    def arguments(self) -> dict[str, float | bool | tuple[float, float]]:
        """Those that are given, as torch's class takes them."""
        given = {name: getattr(self, name) for name in ("lr", *TAKES)}
        return {name: value for name, value in given.items() if value is not None}


class LearningRate(Model):
    """How the learning rate changes in the course of the training."""

    kind: Literal["constant", "cosine", "step"] = "constant"
    """`constant`; `cosine`: down to zero at the end, along half a cosine; `step`: times `factor` at the
    end of every `every` epochs."""
    warmup: NonNegative = 0.0
    """Epochs (a part of one, too) in which the rate first rises from zero, in a straight line."""
    every: Count = 30
    """Kind `step`: epochs from one drop to the next."""
    factor: Share = 0.1
    """Kind `step`: what a drop leaves of the rate."""

    @model_validator(mode="after")
    def _uses(self) -> LearningRate:
        given = self.model_dump(exclude_defaults=True)
        for name in ("every", "factor"):
            if name in given and self.kind != "step":
                raise refuse(f"'{name}' belongs to kind 'step', and this is kind '{self.kind}'")
        return self


class Augmentation(Model):
    """What is changed at random in every training image, anew in every epoch."""

    crop: Annotated[tuple[Share, Share], Strict(False)] | None = None
    """Least and greatest share of the picture's area that a random crop takes, as in [0.08, 1]."""
    flip: bool = False
    """Half of the pictures are mirrored, left to right."""
    shift: Annotated[int, Field(ge=0, le=4096)] = 0
    """The picture is moved by up to so many pixels in each direction; black moves in."""


class Fitting(Model):
    """What every training needs: data, optimizer, and how long."""

    data: str | None = None
    """`digits`, `photos`, `folder:PATH`, `imagenet:PATH`, `webdataset:PATH`, `huggingface:PATH`, or `mnist`,
    `cifar10`, `cifar100`, each with `:PATH` for where it is; or a file of tensors (`.npy`, `.npz`,
    `.safetensors`, `.pt`): inputs, and perhaps their classes. A relative path starts from the current folder.
    `--data` overrides it."""
    epochs: Count = 10
    """How often every image is seen."""
    batch: Count = 64
    """Images for one step of the optimizer, over all processes together. What does not fill the last
    batch of an epoch is left out of that epoch."""
    accumulate: Count = 1
    """Parts in which a process computes its share of a batch, one after another, for less memory."""
    optimizer: Optimizer = Optimizer()
    """The optimizer and its arguments."""
    schedule: LearningRate = LearningRate()
    """How the learning rate changes."""
    clip: Positive | None = None
    """Longest norm of the gradient of all weights together; a longer one is shortened to it."""
    precision: Precision = "float32"
    """What the forward pass computes in, under autocast; weights stay in float32. `float16` needs a GPU."""
    augment: Augmentation = Augmentation()
    """What is random in the images."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training images that are held out, and measured after every epoch; 0 for none."""
    checkpoint: Count | None = None
    """Batches from one checkpoint to the next. Left out: one after every epoch."""
    keep: Count = 2
    """How many checkpoints are kept, the latest."""


class Loss(Model):
    """Task `through_time`: what is added up."""

    classification: NonNegative = 1.0
    """Weight of the cross-entropy of the output."""
    reconstruction: NonNegative = 0.0
    """Weight of the mean squared errors of the feedback predictions, added up over the edges. The
    predicted state counts as given: no gradient makes it easier to predict."""
    at: Literal["every", "last"] = "every"
    """The steps whose losses count: the mean over `every` step, step 0 included, or the `last` alone."""


Task = Literal["feedback", "through_time", "energy"]
BELONGS: dict[str, tuple[Task, ...]] = {
    "steps": ("through_time", "energy"),
    "loss": ("through_time",),
    "save_memory": ("through_time",),
    "rule": ("energy",),
    "label": ("through_time", "energy"),
}
"""Which tasks use a field; the others do not look at it."""
STEPLESS = ("zil", "bp")
"""Rules of task `energy` that have no number of steps."""


class Train(Fitting):
    """What `pcgraph train` does."""

    task: Task | None = None
    """`feedback`: the feedback predictors learn to predict what the plain network computes; nothing else
    moves. `through_time`: predictors and backbone learn by the gradient through all steps of a run.
    `energy`: the weights follow the energy, by `rule`. Left out: `energy` with dynamics of rule
    `energy`, else `feedback`."""
    learns: Annotated[list[Literal["predictors", "backbone"]], Field(min_length=1)] | None = None
    """Whose weights move. Left out: the predictors' for `feedback`, all for the others."""
    steps: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """Steps of a run. 0 with `through_time` trains the plain network. Left out: `schedule.steps`."""
    loss: Loss = Loss()
    """Task `through_time`: the loss."""
    save_memory: bool = False
    """Task `through_time`: keep only the states, and compute each step again in the backward pass."""
    rule: Literal["il", "ipc", "fpa", "zil", "bp"] = "il"
    """Task `energy`: inference learning, incremental, fixed prediction assumption, zero divergence, or
    backpropagation; see the page Learning."""
    label: NodeName | None = None
    """The node that is clamped to the classes, one-hot. Left out: `label`, where there is such a node;
    else the images are all there is to learn."""

    def task_under(self, rule: str) -> Task:
        """The task, also where it is left out.

        Args:
            rule: Of the dynamics: `predify` or `energy`.
        """
        return self.task or ("energy" if rule == "energy" else "feedback")


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise refuse(f"the range [{ends[0]:g}, {ends[1]:g}] runs downwards", "Write the lower end first.")
    return ends


def _short(ends: tuple[Any, Any]) -> Any:
    return ends[0] if ends[0] == ends[1] else list(ends)


def _number_or_range(number: dict[str, Any]) -> WithJsonSchema:
    both = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    return WithJsonSchema({"anyOf": [number, both]})


Levels = Annotated[
    tuple[NonNegative, NonNegative],
    Strict(False),
    BeforeValidator(_pair),
    AfterValidator(_rising),
    PlainSerializer(_short),
    _number_or_range({"type": "number", "minimum": 0}),
]
Steps = Annotated[
    tuple[Count, Count],
    Strict(False),
    BeforeValidator(_pair),
    AfterValidator(_rising),
    PlainSerializer(_short),
    _number_or_range({"type": "integer", "exclusiveMinimum": 0}),
]


class TuningNoise(Model):
    """The noise that the dynamics are tuned for. With both kinds, each image gets one of them, by chance."""

    gaussian: Levels | None = None
    """sigma of normal numbers added to the normalised input, or a range [low, high] of which each image
    draws its own."""
    salt_pepper: Levels | None = None
    """Share of the pixels that turn black or white, or a range of which each image draws its own."""
    clean: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the images that get no noise at all, drawn for each image."""

    @model_validator(mode="after")
    def _shares(self) -> TuningNoise:
        if self.salt_pepper is not None and self.salt_pepper[1] > 1:
            raise refuse(f"a share of {self.salt_pepper[1]:g} of the pixels: expected 1 at most")
        return self


class Tune(Fitting):
    """What `pcgraph tune` does: gains of nodes and edges learn, through the steps, to classify."""

    optimizer: Optimizer = Optimizer(lr=0.03)
    """The optimizer and its arguments. The raw values are few, and want a higher rate than weights do."""
    noise: TuningNoise = TuningNoise()
    """Noise on the images. Left out: none."""
    steps: Steps | None = None
    """Steps of a run, or a range [least, most]: each batch draws its own number, which makes dynamics that
    last. Left out: `schedule.steps`."""
    loss: Literal["every", "last"] = "every"
    """The steps whose cross-entropy counts: the mean over `every` step after the start, or the `last`."""
    shared: bool = False
    """Whether all nodes have the same values; else each has its own."""
    learns: Annotated[list[Literal["dynamics", "edges", "predictors"]], Field(min_length=1)] = ["dynamics"]
    """What moves. `dynamics` are the values of the nodes; `edges` the numbers that edges have as a `gain` or
    `error` of their own (what is 0 stays 0). `predictors` are the feedback's weights: with them the feedback
    learns to classify, and is no longer feedback that was trained by reconstruction alone."""
    save_memory: bool = False
    """Keep only the states, and compute each step again in the backward pass."""
