"""The weights of a model from a file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from pcgraph.errors import Fault, ModelError, PCGraphWarning, closest
from pcgraph.files.weights import check_digest, find_weights
from pcgraph.runs.record import check_written
from pcgraph.spec.weights import Checkpoint, WeightFile
from pcgraph.tracing.weight_files import Part, read_parts
from pcgraph.tracing.weight_fit import (
    Fit,
    Own,
    by_name,
    by_order,
    first,
    misfits,
    nearest,
    same,
    used,
    within,
)

USUAL = ("", "state_dict", "model", "model_state", "model_state_dict", "net", "network", "weights")
"""Where training scripts keep the weights; nothing is said of these."""


def load_reference(
    model: nn.Module, weights: str | WeightFile, match: Literal["name", "order"], folder: Path | None
) -> None:
    """Copy into ``model`` the weight file that a spec means.

    Args:
        model: See `load_weights`.
        weights: The file, in the short or the long form.
        match: See `load_weights`.
        folder: What a relative path is relative to.

    Raises:
        ModelError: There is no such file, it is another one than the spec means, or does not fit.
    """
    meant = weights if isinstance(weights, WeightFile) else WeightFile(file=weights)
    path = find_weights(meant.file, folder)
    check_digest(path, meant.sha256)
    load_weights(model, path, match, meant.part if isinstance(meant, Checkpoint) else None)


def load_weights(
    model: nn.Module, path: Path, match: Literal["name", "order"] = "name", part: str | None = None
) -> None:
    """Copy the tensors of a weight file into ``model``, in place, in the model's own types.

    The weights may stand under keys (``state_dict``, ``ema``, ...) and their names may have the prefix of a
    wrapper (``module.``, ``_orig_mod.``, ``model.``, ...), if they fit there and nowhere else. A
    `PCGraphWarning` says so where these are not the usual ones. Of a tensor that the model uses under
    several names, one name is enough.

    Args:
        model: Every parameter and persistent buffer of it must be in the file, and nothing else beside it.
        path: The file; see `read_parts`.
        match: ``name``: by name. ``order``: first to first, and so on; shapes must agree.
        part: Under which keys, or first part of the names, the weights are. Left out: where they fit.

    Raises:
        InputError: The file is in a run folder, and is not what the run wrote.
        ModelError: The two do not fit, or fit in several ways; nothing was copied then.
    """
    check_written(path)
    own = Own(model)
    parts = read_parts(path, own.bytes)
    if part is not None:
        parts = within(parts, part, path)
    fit = _one(own, path, parts, match)
    if match == "name" and fit.beside and part != fit.label:
        raise ModelError(
            Fault(
                f"'{path}' fits the model under '{fit.label}', but {len(fit.beside)} tensors stand beside "
                f"it ({first(fit.beside)})",
                hint=_choose(path, [fit.label]),
            )
        )
    if faults := misfits(own, fit.tensors):
        raise _misfit(path, own, fit, faults)
    try:
        model.load_state_dict(dict(fit.tensors), strict=False)
    except RuntimeError as error:  # modules may have ways of their own to take weights
        raise ModelError(f"'{path}' cannot be loaded into the model: {error}") from None
    if fit.prefix or fit.label not in (*USUAL, part):
        off = f", with '{fit.prefix}' taken off their names" if fit.prefix else ""
        warnings.warn(
            f"'{path}': the weights are those under '{fit.label}'{off}", PCGraphWarning, stacklevel=2
        )


def _one(own: Own, path: Path, parts: Sequence[Part], match: str) -> Fit:
    fits = by_order(own, parts) if match == "order" else by_name(own, parts)
    if not fits and match == "order":
        raise _disorder(path, own, parts)
    if not fits:
        near = nearest(own, parts)
        raise _misfit(path, own, near, misfits(own, near.tensors))
    others = [fit for fit in fits[1:] if not same(fits[0], fit)]
    if others:
        labels = [fit.label for fit in (fits[0], *others)]
        shown = ", ".join(f"'{label}'" if label else "the top level" for label in labels)
        raise ModelError(
            Fault(f"'{path}' holds several weights that fit the model: {shown}", hint=_choose(path, labels))
        )
    return fits[0]


def _choose(path: Path, labels: Sequence[str]) -> str:
    meant = "Say which are meant" if len(labels) > 1 else "If they are meant, say so"
    return f"{meant}, for example 'weights: {{file: {path.name}, part: {labels[-1]!r}}}'."


def _misfit(path: Path, own: Own, fit: Fit, faults: Sequence[str]) -> ModelError:
    where = f"'{path}', under '{fit.label}'," if fit.label not in USUAL else f"'{path}'"
    missing = [name for name in own.tensors if name not in fit.tensors]
    unexpected = [name for name in fit.tensors if name not in own.tensors]
    hint = ""
    if missing and unexpected:
        hint = f"For '{missing[0]}' the file has others. {closest(missing[0], unexpected)}"
        if len(own.tensors) == len(fit.tensors):
            hint += " For the same network written by another library, use 'match: order'."
    return ModelError(Fault(f"{where} does not fit the model: {'; '.join(faults)}", hint=hint))


def _disorder(path: Path, own: Own, parts: Sequence[Part]) -> ModelError:
    """What keeps the part of the most tensors from fitting in order."""
    given = max((used(part).tensors for part in parts), key=len)
    if len(given) != len(own.tensors):
        return ModelError(f"'{path}' holds {len(given)} tensors, the model has {len(own.tensors)}")
    pairs = enumerate(zip(own.tensors.items(), given.items(), strict=True))
    place, name, old, other, new = next(
        (place, name, old, other, new)
        for place, ((name, old), (other, new)) in pairs
        if old.shape != new.shape
    )
    return ModelError(
        f"'{path}': tensor {place} is '{other}' with shape {tuple(new.shape)}, "
        f"but the model's tensor {place} is '{name}' with shape {tuple(old.shape)}"
    )
