"""The spec language: the pretrained network, and how photographs become its input."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from pcgraph.spec.model import Model
from pcgraph.spec.values import Argument, Finite, Positive, Shape, model_name
from pcgraph.spec.weights import BackboneWeights


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
    preprocess: Preprocess | None = None
    """For image files. Left out: what the weights come with, or ImageNet's customary values."""
