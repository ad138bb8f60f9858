"""What is in a weight file, whichever library wrote it. Nothing in it is ever run."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from pcgraph.errors import Fault, ModelError
from pcgraph.files.weights import is_safetensors, shard_index

KINDS = "safetensors (.safetensors), torch.save (.pth, .pt, .ckpt, .bin, .pth.tar) and numpy.savez (.npz)"
BOMB = 16
"""How many times the model's own size a compressed file may become; a checkpoint with the states of an
optimizer, an average of the weights, and all in double precision has 10."""
SPARE = 64_000_000
"""Bytes that any compressed file may become."""
FORMATS = {
    b"version https://git-lfs": "it stands for a file that Git LFS did not fetch (git lfs pull)",
    b"<!DOCTYPE": "it is a web page",
    b"<html": "it is a web page",
    b"\x1f\x8b": "it is compressed by gzip; unpack it first",
    b"BZh": "it is compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "it is compressed by xz; unpack it first",
    b"\x89HDF": "it is HDF5",
    b"\x93NUMPY": "it is one array without a name",
}
"""What other files begin with."""
_SCALAR = np.float64(0).__reduce__()[0]
# Plain data that training scripts leave beside the weights; making these runs nothing.
PLAIN: list[Any] = [
    argparse.Namespace,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")),
]


@dataclass(frozen=True)
class Part:
    """Tensors by name, and the keys under which a file holds them."""

    keys: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    @property
    def label(self) -> str:
        """The keys as text; empty for the file itself."""
        return ".".join(self.keys)


def read_parts(path: Path, model_bytes: int) -> list[Part]:
    """Everything in a weight file that is a mapping with tensors, outer ones first.

    Safetensors, and what `torch.save` wrote in its newer form, are mapped: what is not used takes no
    memory. The checksums of the latter and of NumPy's files are compared; safetensors has none.

    Args:
        path: The file, or the index of a sharded one.
        model_bytes: Size of the model that it is for; see `BOMB`.

    Raises:
        ModelError: It cannot be read, is damaged, or holds something else.
    """
    try:
        shards = shard_index(path)
        held = _read(path, model_bytes) if shards is None else _gathered(path, shards, model_bytes)
    except ModelError:
        raise
    except Exception as error:  # each library, and each kind of damage, has errors of its own
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            Fault(f"'{path}' cannot be read as a weight file: {said}", hint="It may be damaged or cut off.")
        ) from None
    parts = list(_parts(held, (), set()))
    if not parts:
        raise ModelError(f"'{path}' holds no tensors by name, but {_shown(held)}")
    for part in parts:
        if nested := [name for name, tensor in part.tensors.items() if tensor.is_nested]:  # it has no shape
            raise ModelError(f"'{path}' cannot be read as a weight file: '{nested[0]}' is a nested tensor")
    return parts


def _shown(held: object) -> str:
    keys = ", ".join(map(str, list(held)[:5])) if isinstance(held, Mapping) else ""
    return f"{type(held).__name__} of {keys}" if keys else type(held).__name__


def _parts(held: object, keys: tuple[str, ...], above: set[int]) -> Iterator[Part]:
    if not isinstance(held, Mapping) or id(held) in above:
        return
    tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    if tensors:
        yield Part(keys, tensors)
    for key, value in held.items():
        yield from _parts(value, (*keys, str(key)), above | {id(held)})


def _gathered(index: Path, shards: Mapping[str, str], model_bytes: int) -> dict[str, Tensor]:
    files: dict[str, Mapping[str, Tensor]] = {}
    for file in sorted(set(shards.values())):
        if not (index.parent / file).is_file():
            raise ModelError(f"'{index}' names the file '{file}', which is not beside it")
        held = next(_parts(_read(index.parent / file, model_bytes), (), set()), None)
        files[file] = held.tensors if held else {}
    for name, file in shards.items():
        if name not in files[file]:
            raise ModelError(f"'{index}' places the tensor '{name}' in '{file}', which does not hold it")
    return {name: files[file][name] for name, file in shards.items()}


def _read(path: Path, model_bytes: int) -> object:
    with path.open("rb") as file:
        start = file.read(64)
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"'{path}' cannot be read as a weight file: it is empty")
    if is_safetensors(start) or path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    if start.startswith(b"PK"):
        return _read_zip(path, max(size, BOMB * model_bytes + SPARE))
    if start.startswith(b"\x80"):
        return _read_torch(path, mapped=False)
    what = next((what for first, what in FORMATS.items() if start.startswith(first)), "")
    what = what or ("it is text" if _is_text(start) else "its format is unknown")
    raise ModelError(
        Fault(f"'{path}' cannot be read as a weight file: {what}", hint=f"Weight files are those of {KINDS}.")
    )


def _is_text(start: bytes) -> bool:
    return b"\0" not in start and start.decode("utf-8", "replace").count("\ufffd") < 2


# ---- zip archives: torch.save and numpy.savez -----------------------------------------------------


def _read_zip(path: Path, limit: int) -> object:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        size = sum(record.file_size for record in records)
        if size > limit:
            raise ModelError(
                Fault(
                    f"'{path}' would become {size / 1e6:,.0f} MB, expected at most {limit / 1e6:,.0f} MB "
                    "for this model",
                    hint="It is compressed; save the weights alone, by torch.save or safetensors.",
                )
            )
        broken = archive.testzip()
    if broken is not None:
        raise ModelError(
            Fault(
                f"'{path}' is damaged: the checksum of '{broken}' in it is not that of its content",
                hint="Fetch or save it again; torch.serialization.set_crc32_options(False) leaves none.",
            )
        )
    names = [record.filename for record in records]
    if names and all(name.endswith(".npy") for name in names):
        return _read_numpy(path)
    if any(name.endswith("/constants.pkl") for name in names):
        raise ModelError(
            Fault(
                f"'{path}' is a TorchScript archive, which holds code, expected a file of tensors",
                hint="Save torch.jit.load(FILE).state_dict(), and give that file.",
            )
        )
    if any(name.endswith("data.pkl") for name in names):
        return _read_torch(path, mapped=all(record.compress_type == zipfile.ZIP_STORED for record in records))
    raise ModelError(
        Fault(
            f"'{path}' is a zip archive of other files, expected a weight file",
            hint=f"Weight files are those of {KINDS}.",
        )
    )


def _read_numpy(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return {
        name: torch.from_numpy(
            np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
        )
        for name, array in found.items()
        if array.dtype.kind in "biufc"
    }


def _read_torch(path: Path, mapped: bool) -> object:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(PLAIN):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds '{named[1]}'" if named else str(error).rpartition("error: ")[2].partition("\n")[0]
        load = f"held = torch.load({str(path)!r}, weights_only=False)"
        raise ModelError(
            Fault(
                f"'{path}' is no file of plain tensors ({what}), and loading anything else could run code",
                hint="Save the model's state_dict() and give that file. If you trust this one: "
                f"{load}; held = held.get('state_dict', held) if isinstance(held, dict) else "
                "held.state_dict(); torch.save(held, 'weights.pth')",
            )
        ) from None
