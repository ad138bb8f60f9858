"""Weight files: where they are, which files belong together, and whether they are those that are meant."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
from pathlib import Path

from pcgraph.errors import Fault, ModelError, closest
from pcgraph.files.digest import digest
from pcgraph.files.kinds import instead_of_file

PACKAGE = "package:"
SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".npz", ".json")
INDEX_LIMIT = 64_000_000
"""Bytes of the index of a sharded file; that of 10,000 tensors has one million."""


def weight_path(file: str, folder: Path | None = None) -> Path:
    """The path that is written ``file``: ``~`` is the home folder, and all else means itself.

    Args:
        file: No ``package:`` reference.
        folder: What a relative path is relative to; left out, the current folder.
    """
    return (folder or Path()) / os.path.expanduser(file)


def find_weights(file: str, folder: Path | None = None) -> Path:
    """The file that ``file`` means.

    Args:
        file: A path, relative ones to ``folder``; or ``package:PACKAGE/FILE``, a file of an installed
            package, which is found without importing (running) that package.
        folder: Left out: the current folder.

    Raises:
        ModelError: There is no such file or package.
    """
    if file.startswith(PACKAGE):
        return _find_in_package(file)
    path = weight_path(file, folder)
    try:
        if path.is_file():
            return path
        if other := instead_of_file(path):
            hint = _near("", path) if path.is_dir() else ""
            raise ModelError(Fault(f"'{path}' is {other}, expected a weight file", hint=hint))
        hint = "Download it, and name the file." if "://" in file else _near(path.name, path.parent)
        raise ModelError(Fault(f"there is no weight file '{path}'", hint=hint))
    except (OSError, ValueError) as error:  # no right to look there; a path with a null character
        raise ModelError(f"there is no weight file {file!r} that can be read: {error}") from None


def _near(name: str, folder: Path) -> str:
    return closest(name, sorted(file.name for file in folder.glob("*") if file.suffix in SUFFIXES))


def _find_in_package(reference: str) -> Path:
    package, _, inside = reference.removeprefix(PACKAGE).partition("/")
    if not (package and inside) or ".." in Path(inside).parts or Path(inside).is_absolute():
        raise ModelError(
            Fault(f"'{reference}' does not name a file in a package", hint="Write 'package:PACKAGE/FILE'.")
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
    except (importlib.metadata.PackageNotFoundError, ValueError):
        if spec is None:
            raise ModelError(
                Fault(
                    f"'{reference}': the Python package '{package}' is not installed",
                    hint=f"Install it: pip install {package.replace('_', '-')}",
                )
            ) from None
    for root in roots:
        if (root / inside).is_file():
            return root / inside
    files = [file for root in roots[:1] for file in root.rglob("*") if file.suffix in SUFFIXES]
    names = [file.relative_to(roots[0]).as_posix() for file in files]
    raise ModelError(
        Fault(f"'{reference}': the package '{package}' has no file '{inside}'", hint=closest(inside, names))
    )


# ---- files that belong together -------------------------------------------------------------------


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins like this is one of safetensors: the length of its header, and JSON."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= 100_000_000


def shard_index(path: Path) -> dict[str, str] | None:
    """The ``weight_map`` of an index: which file beside it holds each tensor; None if it is no index.

    Raises:
        ModelError: It is JSON, and no index; or it names a file that is not beside it.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if is_safetensors(start) or not start.lstrip().startswith(b"{"):
        return None
    if path.stat().st_size > INDEX_LIMIT:
        raise ModelError(f"'{path}' cannot be read as a weight file: it is text")
    try:
        index = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' cannot be read as an index of weight files: {error}") from None
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(file, str) for file in shards.values()):
        raise ModelError(
            Fault(
                f"'{path}' is JSON, expected an index with a 'weight_map' of tensors to files",
                hint="Such a file is called 'model.safetensors.index.json'.",
            )
        )
    for file in shards.values():
        if file != Path(file).name or "\0" in file:
            raise ModelError(f"'{path}' names '{file}', expected the name of a file beside it")
    return shards


def weights_digest(path: Path) -> str:
    """A digest of a weight file: its SHA-256; of an index, that of the digests of all its files.

    Raises:
        ModelError: A file cannot be read.
    """
    try:
        shards = shard_index(path)
        if shards is None:
            return digest(path)
        files = [path, *(path.parent / name for name in sorted(set(shards.values())))]
        lines = [f"{digest(file)}  {file.name}\n" for file in files]  # as `sha256sum` prints them
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read as a weight file: {error}") from None
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_digest(path: Path, expected: str | None) -> None:
    """Make sure that a weight file is the one that is meant.

    Raises:
        ModelError: Its digest is another one.
    """
    if expected is None:
        return
    found = weights_digest(path)
    if found != expected:
        raise ModelError(
            Fault(
                f"'{path}' is another file than the spec means, or damaged: "
                f"expected the SHA-256 {expected}, found {found}",
                hint="Bring the old file back; if this one is meant, write its SHA-256 or leave it out.",
            )
        )
