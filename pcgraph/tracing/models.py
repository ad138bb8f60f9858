"""Where models come from: torchvision, timm, pcgraph, a trusted Python object, or the caller."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from pcgraph.errors import Fault, ModelError, closest
from pcgraph.files.weights import weight_path
from pcgraph.spec import objects
from pcgraph.spec.weights import WeightFile, library_name
from pcgraph.tracing.builtin import BUILTIN, OWN
from pcgraph.tracing.constructing import about, construct
from pcgraph.tracing.copying import copy_model, refuse_unreadable, settle, unwrap
from pcgraph.tracing.libraries import (
    TIMM,
    TORCHVISION,
    TRANSFORMERS,
    timm_model,
    torchvision_model,
    torchvision_names,
    transformers_model,
)
from pcgraph.tracing.weights import load_reference


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
        model = torchvision_model(ref.removeprefix(TORCHVISION), name, arguments, meta)
    elif ref.startswith(TIMM):
        _no_file_too(name, folder)
        model = timm_model(ref.removeprefix(TIMM), name, arguments, meta)
    elif ref.startswith(TRANSFORMERS):
        model = transformers_model(ref.removeprefix(TRANSFORMERS), name, arguments, meta)
    elif ref.startswith(OWN):
        model = _own_model(ref.removeprefix(OWN), arguments, meta)
    elif ref.startswith(objects.PREFIX):
        model, constants = _python_model(ref, arguments, trust, meta)
    else:
        hint = (
            "Write 'torchvision:NAME', 'timm:NAME', 'transformers:NAME', 'pcgraph:NAME' or "
            "'python:PACKAGE.MODULE:NAME'."
        )
        if ref in torchvision_names():
            hint = f"Did you mean '{TORCHVISION}{ref}'?"
        raise ModelError(Fault(f"unknown model '{ref}'", hint=hint))
    if name is not None and (isinstance(ref, nn.Module) or ref.startswith((objects.PREFIX, OWN))):
        raise ModelError(
            Fault(
                f"weights '{name}': only torchvision, timm and transformers models have weights by name",
                ("weights",),
                hint=f"Give a file (one of that name is './{name}'), or leave 'weights' out.",
            )
        )
    if weights is not None and name is None and not meta:
        with about("weights"):
            load_reference(model, weights, match, folder)
    return settle(model).requires_grad_(False), constants


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


# pcgraph -------------------------------------------------------------------------------------------


def _own_model(name: str, arguments: Mapping[str, object], meta: bool) -> nn.Module:
    if name not in BUILTIN:
        raise ModelError(Fault(f"pcgraph has no model '{name}'", hint=closest(name, BUILTIN)))
    return construct(f"{OWN}{name}", lambda: BUILTIN[name](**arguments), meta, downloads=False)


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
    model = construct(ref, lambda: found(**own), meta, downloads=False)
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
