"""Models of torchvision, timm and transformers, with their weights."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

from pcgraph.errors import Fault, ModelError, closest
from pcgraph.tracing.constructing import about, construct

TORCHVISION = "torchvision:"
TIMM = "timm:"
TRANSFORMERS = "transformers:"
# Their customary initialisation takes many seconds, and scales the activations no better.
SLOW_INITIALISATION = ("googlenet", "inception_v3")


# torchvision ---------------------------------------------------------------------------------------


def _models() -> ModuleType:
    return importlib.import_module("torchvision.models")  # takes as long as torch itself


def torchvision_names(part: str | None = None) -> list[str]:
    """The names of torchvision's models: all, or those of one of its modules, such as ``models.video``."""
    module = None if part is None else importlib.import_module(f"torchvision.{part}")
    return list(_models().list_models(module=module))


def torchvision_model(
    name: str, weights: str | None, arguments: Mapping[str, object], meta: bool
) -> nn.Module:
    """A model of torchvision; see `load_model`."""
    check_torchvision(name)
    chosen: Any = None
    if weights is not None:
        with about("weights"):
            chosen = torchvision_weights(name, weights)
    options = dict(arguments)
    if name in SLOW_INITIALISATION:
        options.setdefault("init_weights", False)
    if meta:
        chosen = None
    if chosen is None and _takes_backbone(name):
        options.setdefault("weights_backbone", None)

    def build() -> nn.Module:
        model: nn.Module = _models().get_model(name, weights=chosen, **options)
        return model

    return construct(f"{TORCHVISION}{name}", build, meta, downloads=chosen is not None)


def _takes_backbone(name: str) -> bool:
    return "weights_backbone" in inspect.signature(_models().get_model_builder(name)).parameters


def check_torchvision(name: str) -> None:
    """Make sure that torchvision has this model.

    Raises:
        ModelError: It has none.
    """
    known = torchvision_names()
    if name not in known:
        raise ModelError(
            Fault(f"torchvision has no model '{name}'", hint=closest(name, known) + _elsewhere(name))
        )


def _elsewhere(name: str) -> str:
    """A pointer to timm when the name is timm's; timm is not imported for it."""
    timm: Any = sys.modules.get("timm")
    return f" timm has it: '{TIMM}{name}'." if timm is not None and timm.is_model(name) else ""


def all_torchvision_weights(name: str) -> Mapping[str, Any]:
    """The weights of one of torchvision's models, by name; DEFAULT is one of the others, too."""
    members: Mapping[str, Any] = _models().get_model_weights(name).__members__
    return members


def torchvision_weights(name: str, weights: str) -> Any:
    """Weights of torchvision by name, as it lists them.

    Raises:
        ModelError: There is no such model, or it has no such weights.
    """
    check_torchvision(name)
    members = all_torchvision_weights(name)
    if weights not in members:
        raise ModelError(
            Fault(f"{TORCHVISION}{name} has no weights '{weights}'", hint=closest(weights, members))
        )
    return members[weights]


# timm ----------------------------------------------------------------------------------------------


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            Fault("the package timm is not installed", hint="Install it: pip install 'pcgraph[timm]'")
        ) from error
    return timm


def timm_model(name: str, weights: str | None, arguments: Mapping[str, object], meta: bool) -> nn.Module:
    """A model of timm; see `load_model`."""
    timm = _timm()
    _known_timm(name)
    full, pretrained = name, False
    if weights is not None:
        with about("weights"):
            full, pretrained = timm_tagged(name, weights), not meta

    def build() -> nn.Module:
        model: nn.Module = timm.create_model(full, pretrained=pretrained, **arguments)
        return model

    return construct(f"{TIMM}{name}", build, meta, downloads=pretrained)


def _known_timm(name: str) -> None:
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(Fault(f"timm has no model '{name}'", hint=closest(architecture, timm.list_models())))
    if tag:
        timm_tagged(architecture, tag)


def timm_tagged(name: str, weights: str) -> str:
    """The model's name with the tag of its weights, as timm writes it: ``NAME.TAG``."""
    architecture = name.partition(".")[0]
    tags = [full.partition(".")[2] for full in _timm().list_pretrained(f"{architecture}.*")]
    if weights == "DEFAULT" and tags:
        return name
    if weights not in tags:
        hint = closest(weights, ["DEFAULT", *tags]) if tags else "timm has no weights for this model."
        raise ModelError(Fault(f"{TIMM}{architecture} has no weights '{weights}'", hint=hint))
    return f"{architecture}.{weights}"


def timm_config(name: str, weights: str | None) -> Any:
    """What timm says of a model, or of one of its weights; None where it says nothing."""
    timm = _timm()
    _known_timm(name)
    if weights is not None and weights != "DEFAULT":
        name = timm_tagged(name, weights)
    return timm.get_pretrained_cfg(name)


# transformers --------------------------------------------------------------------------------------


def _transformers() -> ModuleType:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ModelError(
            Fault(
                "models of transformers need the package transformers, which is not installed",
                hint="pip install 'pcgraph[transformers]'",
            )
        ) from error


def transformers_model(
    name: str, weights: str | None, arguments: Mapping[str, object], meta: bool
) -> nn.Module:
    """A class of transformers with random weights, or a published image classifier."""
    transformers = _transformers()
    kind = getattr(transformers, name, None) if name.isidentifier() else None
    pretrained = weights is not None
    if kind is None and name.isidentifier() and name.endswith(_TASKS):
        known = [known for known in dir(transformers) if known.endswith(_TASKS)]
        raise ModelError(Fault(f"transformers has no model '{name}'", hint=closest(name, known)))
    if kind is not None and pretrained:
        raise ModelError(
            Fault(
                f"{TRANSFORMERS}{name} has no weights '{weights}'",
                ("weights",),
                hint=f"Name what was published, such as '{TRANSFORMERS}microsoft/resnet-50', or give a "
                "weight file.",
            )
        )
    if pretrained and weights != "DEFAULT":
        raise ModelError(
            Fault(f"{TRANSFORMERS}{name} has no weights '{weights}'", ("weights",), hint="Write 'DEFAULT'.")
        )

    def build() -> nn.Module:
        model: nn.Module
        if kind is not None:
            model = kind(kind.config_class(**arguments))
        elif pretrained and not meta:
            model = transformers.AutoModelForImageClassification.from_pretrained(name, **arguments)
        else:
            config = transformers.AutoConfig.from_pretrained(name, **arguments)
            model = transformers.AutoModelForImageClassification.from_config(config)
        return model

    return construct(f"{TRANSFORMERS}{name}", build, meta, downloads=kind is None)


_TASKS = ("Model", "ForImageClassification", "Backbone", "ForSemanticSegmentation")
