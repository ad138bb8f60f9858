"""The spec language: the pretrained network, and how photographs become its input."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Strict, Tag

from pcgraph.spec.model import Model
from pcgraph.spec.source import show
from pcgraph.spec.values import Argument, Finite, Positive, Shape, model_name, refuse
from pcgraph.spec.weights import BackboneWeights

IMAGENET = "imagenet"
"""The 1,000 classes of the ImageNet challenge, in the order of its labels."""


class Preprocess(Model):
    """How a photograph becomes the network's input: resize, centre crop, normalise."""

    resize: Annotated[int, Field(gt=0, le=16384)] | None = None
    """Length of the shorter side in pixels before the crop to `input`. Left out: `input`'s own."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How pixels are interpolated when the photograph is resized (antialiased)."""
    mean: Annotated[tuple[Finite, ...], Strict(False), Field(min_length=1)] = (0.485, 0.456, 0.406)
    """Subtracted from each channel; pixels run from 0 to 1."""
    std: Annotated[tuple[Positive, ...], Strict(False), Field(min_length=1)] = (0.229, 0.224, 0.225)
    """Each channel is divided by it."""


def _classes(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        names = [name for name in value if isinstance(name, str)]
        if len(value) < 2:
            raise refuse(f"expected the names of two classes or more, got {show(value)}")
        if twice := [name for place, name in enumerate(names) if name in names[:place]][:1]:
            raise refuse(f"{show(twice[0])} is the name of two classes")
    return value


def _kind(value: Any) -> str:
    return "<names>" if isinstance(value, (list, tuple)) else "<file>"


Classes = Annotated[
    Annotated[Annotated[str, Field(min_length=1)], Tag("<file>")]
    | Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...], Strict(False), Field(min_length=2), Tag("<names>")
    ],
    Discriminator(_kind),
    BeforeValidator(_classes),
]


def names_a_file(classes: str | tuple[str, ...] | None) -> TypeGuard[str]:
    """Whether the names of classes are in a file."""
    return isinstance(classes, str) and classes != IMAGENET


class Backbone(Model):
    """The pretrained network whose graph is read."""

    model: Annotated[str, AfterValidator(model_name)] | None = None
    """`torchvision:NAME`, `timm:NAME`, `transformers:NAME` (a class, or what is published), the name
    `pcgraph:digits_cnn`, or `python:PACKAGE.MODULE:NAME` (needs trust). Left out: the program that builds the
    network hands the model over, `build(spec, model=...)`."""
    weights: BackboneWeights = None
    """`DEFAULT` or another name of the model's library (it has no '.' and no '/'); a file of safetensors, of
    `torch.save`, of `numpy.savez`, or the index of a sharded one; `package:PACKAGE/FILE`, a file inside an
    installed Python package; or a file in the long form. Left out: random weights."""
    match: Literal["name", "order"] = "name"
    """How the tensors of a weight file find their place: by name, or by their order in the file
    (for the same network written by another library)."""
    input: Shape = (3, 224, 224)
    """Shape of one input, without the batch."""
    arguments: dict[str, Argument] = {}
    """Keyword arguments for the model's constructor, such as `num_classes`; those that it does not take and
    the model's forward does are constants that it is given besides each image."""
    output: Annotated[str, Field(min_length=1)] | None = None
    """Which tensor of the model's output is the network's, where it gives several: a key or field, such as
    `logits`, or a place, such as `"0"`; dotted where it lies deeper. Left out: the first tensor of shape
    (batch, classes), or else the first tensor."""
    classes: Classes | None = None
    """What its outputs are, in order: a list of names; a text file with one name a line; or `imagenet`.
    Labels count in this order, by the names of folders or of the data's own classes. Left out: the data's own
    order."""
    preprocess: Preprocess | None = None
    """For image files. Left out: what the weights come with, or ImageNet's customary values."""
