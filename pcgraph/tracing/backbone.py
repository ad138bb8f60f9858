"""The backbone that a spec describes: its model, with its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch import nn

from pcgraph.errors import Fault, ModelError, SpecError
from pcgraph.spec import Backbone
from pcgraph.spec.weights import library_name
from pcgraph.tracing.models import load_with_constants


def load_backbone(
    backbone: Backbone, model: nn.Module | None, *, trust: bool, meta: bool = False, folder: Path
) -> tuple[nn.Module, dict[str, object]]:
    """The model that a spec names, or a copy of the one that is given, with the spec's weights.

    With it comes what its forward is given besides the image; see `load_with_constants`.

    Args:
        backbone: What the spec says.
        model: The model itself. Weights from a file are loaded into it too; a library's are not.
        trust: Whether ``python:`` may import and run foreign code.
        meta: Without storage and weights where the model can; see `load_model`.
        folder: What relative weight files are relative to.

    Raises:
        SpecError: There is neither a name nor a model.
        ModelError: The model or weights cannot be had, or do not fit.
    """
    named = backbone.model if model is None else model
    if named is None:
        hint = "Name one under 'model', or pass build(model=...)."
        raise SpecError(Fault("the spec names no model", ("backbone",), hint))
    with about_backbone():
        return load_with_constants(
            named,
            weights=backbone.weights if model is None or library_name(backbone.weights) is None else None,
            match=backbone.match,
            arguments=backbone.arguments,
            trust=trust,
            meta=meta,
            folder=folder,
        )


@contextmanager
def about_backbone() -> Iterator[None]:
    """Say of faults in the block which field of the spec they are about."""
    try:
        yield
    except ModelError as error:
        faults = [replace(fault, path=("backbone", *(fault.path or ("model",)))) for fault in error.faults]
        raise ModelError(faults) from None
