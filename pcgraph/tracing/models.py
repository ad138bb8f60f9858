"""Where models come from: torchvision, timm, pcgraph, a trusted Python object, or the caller."""

from __future__ import annotations

import contextlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from pcgraph.errors import Fault, ModelError, closest
from pcgraph.files.weights import weight_path
from pcgraph.spec import objects
from pcgraph.spec.backbone import Preprocess
from pcgraph.spec.weights import WeightFile, library_name
from pcgraph.tracing.builtin import BUILTIN, DIGITS_INPUT
from pcgraph.tracing.copying import copy_model, refuse_unreadable, unwrap
from pcgraph.tracing.weights import load_reference

TORCHVISION = "torchvision:"
TIMM = "timm:"
TRANSFORMERS = "transformers:"
OWN = "pcgraph:"
# Their customary initialisation takes many seconds, and scales the activations no better.
SLOW_INITIALISATION = ("googlenet", "inception_v3")


def load_model(
    ref: str | nn.Module,
    *,
    weights: str | WeightFile | None = None,
    match: Literal["name", "order"] = "name",
    arguments: Mapping[str, object] = {},
    trust: bool = False,
    meta: bool = False,
    folder: Path | None = None,
) -> nn.Module:
    """Build a model, in eval mode and with no parameter that asks for a gradient.

    Args:
        ref: ``torchvision:NAME``, ``timm:NAME``, ``pcgraph:NAME``, ``python:PACKAGE.MODULE:NAME`` (a
            module, or a callable that returns one), or a module, which is copied and never changed.
        weights: None for random weights; ``DEFAULT`` or another name of the model's library, without '.' and
            '/'; a file, see `load_weights`; ``package:PACKAGE/FILE``; or a file in the spec's long form.
        match: How a weight file's tensors find their place: by name, or by their order.
        arguments: Keyword arguments for the constructor; see `load_with_constants`.
        trust: Whether ``python:`` may import and run foreign code.
        meta: Build without storage and without weights where the model can (to look at it only).
        folder: What relative weight files are relative to.

    Raises:
        ModelError: There is no such model or weights, they cannot be had, or do not fit.
    """
    return load_with_constants(
        ref, weights=weights, match=match, arguments=arguments, trust=trust, meta=meta, folder=folder
    )[0]


def load_with_constants(
    ref: str | nn.Module,
    *,
    weights: str | WeightFile | None = None,
    match: Literal["name", "order"] = "name",
    arguments: Mapping[str, object] = {},
    trust: bool = False,
    meta: bool = False,
    folder: Path | None = None,
) -> tuple[nn.Module, dict[str, object]]:
    """Like `load_model`, with those ``arguments`` besides that are constants for the model's forward.

    Of a module that is handed over those are the ones that its forward takes; of a class or function
    named by ``python:`` the ones that it does not take itself. All others are for the constructor.
    """
    constants: dict[str, object] = {}
    name = library_name(weights)
    if isinstance(ref, nn.Module):
        inside = unwrap(ref)
        refuse_unreadable(inside)
        model = copy_model(inside)
        taken = parameters_of(model.forward)[1:]
        constants = {name: value for name, value in arguments.items() if name in taken}
    elif ref.startswith(TORCHVISION):
        _no_file_too(name, folder)
        model = _torchvision_model(ref.removeprefix(TORCHVISION), name, arguments, meta)
    elif ref.startswith(TIMM):
        _no_file_too(name, folder)
        model = _timm_model(ref.removeprefix(TIMM), name, arguments, meta)
    elif ref.startswith(TRANSFORMERS):
        model = _transformers_model(ref.removeprefix(TRANSFORMERS), name, arguments, meta)
    elif ref.startswith(OWN):
        model = _own_model(ref.removeprefix(OWN), arguments, meta)
    elif ref.startswith(objects.PREFIX):
        model, constants = _python_model(ref, arguments, trust, meta)
    else:
        hint = (
            "Write 'torchvision:NAME', 'timm:NAME', 'transformers:NAME', 'pcgraph:NAME' or "
            "'python:PACKAGE.MODULE:NAME'."
        )
        if ref in torchvision.models.list_models():
            hint = f"Did you mean '{TORCHVISION}{ref}'?"
        raise ModelError(Fault(f"unknown model '{ref}'", hint=hint))
    if weights is not None and not meta:
        if name is None:
            with _about("weights"):
                load_reference(model, weights, match, folder)
        elif isinstance(ref, nn.Module) or ref.startswith((objects.PREFIX, OWN)):
            raise ModelError(
                Fault(
                    f"weights '{weights}': only torchvision, timm and transformers models "
                    "have weights by name",
                    ("weights",),
                    hint=f"Give a file (one of that name is './{weights}'), or leave 'weights' out.",
                )
            )
    return model.eval().requires_grad_(False), constants


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters, in order; ``**`` stands for any name."""
    parameters = inspect.signature(function).parameters.values()
    return ["**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]


def _no_file_too(name: str | None, folder: Path | None) -> None:
    if name is not None and weight_path(name, folder).is_file():
        raise ModelError(
            Fault(
                f"weights '{name}': a name of the model's library, and a file of that name is there, too",
                ("weights",),
                hint=f"For the file write './{name}'; for the library's, rename the file.",
            )
        )


def preprocess_of(ref: str | nn.Module, weights: str | WeightFile | None) -> Preprocess | None:
    """How the model's weights want their images; None where nobody says. Downloads nothing."""
    if isinstance(ref, nn.Module) or weights is None:
        return None
    name = library_name(weights)
    if ref.startswith(TORCHVISION) and name is not None:
        transforms = _torchvision_weights(ref.removeprefix(TORCHVISION), name).transforms()
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
        config = _timm_config(ref.removeprefix(TIMM), name)
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
        names = _torchvision_weights(ref.removeprefix(TORCHVISION), name).meta.get("categories")
        return list(names) if names else None
    if ref.startswith(TORCHVISION):
        classifiers = torchvision.models.list_models(module=torchvision.models)
        return imagenet_categories() if ref.removeprefix(TORCHVISION) in classifiers else None
    if ref.startswith(TIMM):
        config = _timm_config(ref.removeprefix(TIMM), name)
        return imagenet_categories() if config is not None and config.num_classes == 1000 else None
    return None


def default_input(ref: str | nn.Module, weights: str | WeightFile | None = None) -> tuple[int, ...]:
    """The input shape, without the batch, that a model was made for; (3, 224, 224) where nobody says.

    A video model has no fixed number of frames: it is the least that its weights take, or 16.
    """
    if isinstance(ref, str) and ref.startswith(TORCHVISION):
        name = ref.removeprefix(TORCHVISION)
        _known_torchvision(name)
        if name in torchvision.models.list_models(module=torchvision.models.video):
            return _video_input(name)
        sides = {
            key: getattr(member.transforms(), "crop_size", [224])[0]
            for key, member in torchvision.models.get_model_weights(name).__members__.items()
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
        config = vars(_timm_config(ref.removeprefix(TIMM), None) or object)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    return tuple(size) if size else (3, 224, 224)


def _video_input(name: str) -> tuple[int, ...]:
    """(channels, frames, height, width) of a clip that a video model of torchvision takes."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    return (3, weights.meta.get("min_temporal_size", 16), *weights.transforms().crop_size)


def imagenet_categories() -> list[str]:
    """The names of ImageNet's 1000 classes."""
    return list(_torchvision_weights("resnet18", "DEFAULT").meta["categories"])


# torchvision ---------------------------------------------------------------------------------------


def _torchvision_model(
    name: str, weights: str | None, arguments: Mapping[str, object], meta: bool
) -> nn.Module:
    _known_torchvision(name)
    chosen: Any = None
    if weights is not None:
        with _about("weights"):
            chosen = _torchvision_weights(name, weights)
    options = dict(arguments)
    if name in SLOW_INITIALISATION:
        options.setdefault("init_weights", False)
    if meta:
        chosen = None
    if chosen is None and _takes_backbone(name):
        options.setdefault("weights_backbone", None)

    def build() -> nn.Module:
        model: nn.Module = torchvision.models.get_model(name, weights=chosen, **options)
        return model

    return _construct(f"{TORCHVISION}{name}", build, meta, downloads=chosen is not None)


def _takes_backbone(name: str) -> bool:
    return "weights_backbone" in inspect.signature(torchvision.models.get_model_builder(name)).parameters


def _known_torchvision(name: str) -> None:
    known = torchvision.models.list_models()
    if name not in known:
        raise ModelError(
            Fault(f"torchvision has no model '{name}'", hint=closest(name, known) + _elsewhere(name))
        )


def _elsewhere(name: str) -> str:
    """A pointer to timm when the name is timm's; timm is not imported for it."""
    timm: Any = sys.modules.get("timm")
    return f" timm has it: '{TIMM}{name}'." if timm is not None and timm.is_model(name) else ""


def _torchvision_weights(name: str, weights: str) -> Any:
    _known_torchvision(name)
    members: Mapping[str, Any] = torchvision.models.get_model_weights(name).__members__
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


def _timm_model(name: str, weights: str | None, arguments: Mapping[str, object], meta: bool) -> nn.Module:
    timm = _timm()
    _known_timm(name)
    full, pretrained = name, False
    if weights is not None:
        with _about("weights"):
            full, pretrained = _timm_tagged(name, weights), not meta

    def build() -> nn.Module:
        model: nn.Module = timm.create_model(full, pretrained=pretrained, **arguments)
        return model

    return _construct(f"{TIMM}{name}", build, meta, downloads=pretrained)


def _known_timm(name: str) -> None:
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(Fault(f"timm has no model '{name}'", hint=closest(architecture, timm.list_models())))
    if tag:
        _timm_tagged(architecture, tag)


def _timm_tagged(name: str, weights: str) -> str:
    """The model's name with the tag of its weights, as timm writes it: ``NAME.TAG``."""
    architecture = name.partition(".")[0]
    tags = [full.partition(".")[2] for full in _timm().list_pretrained(f"{architecture}.*")]
    if weights == "DEFAULT" and tags:
        return name
    if weights not in tags:
        hint = closest(weights, ["DEFAULT", *tags]) if tags else "timm has no weights for this model."
        raise ModelError(Fault(f"{TIMM}{architecture} has no weights '{weights}'", hint=hint))
    return f"{architecture}.{weights}"


def _timm_config(name: str, weights: str | None) -> Any:
    timm = _timm()
    _known_timm(name)
    if weights is not None and weights != "DEFAULT":
        name = _timm_tagged(name, weights)
    return timm.get_pretrained_cfg(name)


# transformers --------------------------------------------------------------------------------------


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            Fault("the package transformers is not installed", hint="Install it: pip install transformers")
        ) from error
    return transformers


def _transformers_model(
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

    return _construct(f"{TRANSFORMERS}{name}", build, meta, downloads=kind is None)


_TASKS = ("Model", "ForImageClassification", "Backbone", "ForSemanticSegmentation")


# pcgraph -------------------------------------------------------------------------------------------


def _own_model(name: str, arguments: Mapping[str, object], meta: bool) -> nn.Module:
    if name not in BUILTIN:
        raise ModelError(Fault(f"pcgraph has no model '{name}'", hint=closest(name, BUILTIN)))
    return _construct(f"{OWN}{name}", lambda: BUILTIN[name](**arguments), meta, downloads=False)


# python --------------------------------------------------------------------------------------------


def _python_model(
    ref: str, arguments: Mapping[str, object], trust: bool, meta: bool
) -> tuple[nn.Module, dict[str, object]]:
    found = objects.import_object(ref, trust=trust)
    if isinstance(found, nn.Module):
        return load_with_constants(found, arguments=arguments)
    if not callable(found):
        raise ModelError(f"'{ref}' is neither a torch.nn.Module nor a callable, but {type(found).__name__}")
    own, constants = _divide(found, arguments)
    model = _construct(ref, lambda: found(**own), meta, downloads=False)
    if not isinstance(model, nn.Module):
        raise ModelError(f"'{ref}' returned no torch.nn.Module, but {type(model).__name__}")
    taken = parameters_of(model.forward)[1:]
    for name in constants:
        if name not in taken:
            near = closest(name, [*parameters_of(found), *taken])
            raise ModelError(
                Fault(f"neither '{ref}' nor its forward takes '{name}'", ("arguments", name), near)
            )
    return model, constants


def _divide(
    found: Callable[..., Any], arguments: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """The arguments for a constructor, and those that only the forward of what it makes can take."""
    own = parameters_of(found)
    forward = parameters_of(found.forward) if isinstance(found, type) and hasattr(found, "forward") else []
    later = {name for name in arguments if name not in own and ("**" not in own or name in forward)}
    return (
        {name: value for name, value in arguments.items() if name not in later},
        {name: value for name, value in arguments.items() if name in later},
    )


# construction --------------------------------------------------------------------------------------


class _WithoutStorage(TorchFunctionMode):
    """Makes ``torch.empty``, where parameters come from, give tensors on the meta device.

    A device context would move every factory function, and constructors that compute with numbers
    of a ``torch.linspace`` (regnet) or ``torch.arange`` need real ones.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _construct(ref: str, build: Callable[[], nn.Module], meta: bool, downloads: bool) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if meta:
            with contextlib.suppress(Exception), _WithoutStorage():
                return build().to("meta")
        try:
            return build()
        except Exception as error:
            if downloads and _is_about_network(error):
                raise ModelError(
                    Fault(
                        f"the weights of '{ref}' cannot be downloaded: {error}",
                        ("weights",),
                        hint="Download the file where there is a network, put it next to the spec, "
                        "and write 'weights: FILE'; or leave 'weights' out for random ones.",
                    )
                ) from error
            raise ModelError(f"'{ref}' cannot be built: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _about(argument: str) -> Iterator[None]:
    """Say of faults in the block which argument they are about."""
    try:
        yield
    except ModelError as error:
        raise ModelError(replace(fault, path=(argument,)) for fault in error.faults) from error


def _is_about_network(error: BaseException) -> bool:
    libraries = ("urllib", "http", "httpx", "httpcore", "requests", "huggingface_hub", "socket", "ssl")
    return any(
        isinstance(cause, OSError) or type(cause).__module__.partition(".")[0] in libraries
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
