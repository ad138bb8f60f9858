"""What is known of a model before it is made: its input, its classes, how its images are prepared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from pcgraph.spec.backbone import Preprocess
from pcgraph.spec.weights import WeightFile, library_name
from pcgraph.tracing.builtin import DIGITS_INPUT, OWN
from pcgraph.tracing.libraries import (
    TIMM,
    TORCHVISION,
    all_torchvision_weights,
    check_torchvision,
    timm_config,
    torchvision_names,
    torchvision_weights,
)


def preprocess_of(ref: str | nn.Module, weights: str | WeightFile | None) -> Preprocess | None:
    """How the model's weights want their images; None where nobody says. Downloads nothing."""
    if isinstance(ref, nn.Module) or weights is None:
        return None
    name = library_name(weights)
    if ref.startswith(TORCHVISION) and name is not None:
        transforms = torchvision_weights(ref.removeprefix(TORCHVISION), name).transforms()
        sizes = getattr(transforms, "resize_size", None)
        if not sizes:
            return None
        bicubic = transforms.interpolation.value == "bicubic"
        return Preprocess(
            resize=sizes[0],
            interpolation="bicubic" if bicubic else "bilinear",
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
        )
    if ref.startswith(TIMM):
        config = timm_config(ref.removeprefix(TIMM), name)
        if config is not None:
            side = min(config.input_size[-2:])
            return Preprocess(
                resize=int(side / config.crop_pct),
                interpolation="bicubic" if config.interpolation == "bicubic" else "bilinear",
                mean=config.mean,
                std=config.std,
            )
    return None


def categories_of(ref: str | nn.Module, weights: str | WeightFile | None) -> list[str] | None:
    """The names of the classes that the weights were trained on, in order; None where nobody says.

    timm's models of 1000 classes and weight files of torchvision's and timm's classification
    models are taken to be ImageNet's; compare the length with the output's before use.
    """
    if isinstance(ref, nn.Module) or weights is None:
        return None
    name = library_name(weights)
    if ref.startswith(TORCHVISION) and name is not None:
        names = torchvision_weights(ref.removeprefix(TORCHVISION), name).meta.get("categories")
        return list(names) if names else None
    if ref.startswith(TORCHVISION):
        classifiers = torchvision_names("models")
        return imagenet_categories() if ref.removeprefix(TORCHVISION) in classifiers else None
    if ref.startswith(TIMM):
        config = timm_config(ref.removeprefix(TIMM), name)
        return imagenet_categories() if config is not None and config.num_classes == 1000 else None
    return None


def default_input(ref: str | nn.Module, weights: str | WeightFile | None = None) -> tuple[int, ...]:
    """The input shape, without the batch, that a model was made for; (3, 224, 224) where nobody says.

    A video model has no fixed number of frames: it is the least that its weights take, or 16.
    """
    if isinstance(ref, str) and ref.startswith(TORCHVISION):
        name = ref.removeprefix(TORCHVISION)
        check_torchvision(name)
        if name in torchvision_names("models.video"):
            return _video_input(name)
        sides = {
            key: getattr(member.transforms(), "crop_size", [224])[0]
            for key, member in all_torchvision_weights(name).items()
        }
        # Without weights a vision transformer is built for 224, even where its best weights are not.
        side = sides.get(library_name(weights) or "") or (
            224 if 224 in sides.values() else sides.get("DEFAULT", 224)
        )
        return (3, side, side)
    if isinstance(ref, str) and ref.startswith(OWN):
        return DIGITS_INPUT
    config: Any = getattr(ref, "pretrained_cfg", None)
    if isinstance(ref, str) and ref.startswith(TIMM):
        config = vars(timm_config(ref.removeprefix(TIMM), None) or object)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    return tuple(size) if size else (3, 224, 224)


def _video_input(name: str) -> tuple[int, ...]:
    """(channels, frames, height, width) of a clip that a video model of torchvision takes."""
    weights = torchvision_weights(name, "DEFAULT")
    return (3, weights.meta.get("min_temporal_size", 16), *weights.transforms().crop_size)


def imagenet_categories() -> list[str]:
    """The names of ImageNet's 1000 classes."""
    return list(torchvision_weights("resnet18", "DEFAULT").meta["categories"])
