"""The files that come with pcgraph: example specs and photographs."""

from __future__ import annotations

from pathlib import Path

from pcgraph.errors import Fault, InputError, SpecError, closest

_PACKAGE = Path(__file__).parent.parent
_PHOTOS = _PACKAGE / "data" / "photos"


def _specs() -> Path:
    """Specs are inside an installed package, and beside it in a checkout."""
    inside = _PACKAGE / "specs"
    return inside if inside.is_dir() else _PACKAGE.parent / "specs"


def shipped_specs() -> list[str]:
    """Names of the specs that come with pcgraph, sorted."""
    return sorted(path.stem for path in _specs().glob("*.yaml"))


def shipped_spec(name: str) -> Path:
    """The file of a shipped spec.

    Args:
        name: The file's name without ``.yaml``, such as ``vgg16``.

    Raises:
        SpecError: No spec of this name is shipped.
    """
    known = shipped_specs()
    if name not in known:
        raise SpecError(Fault(f"no shipped spec is called '{name}'", hint=closest(name, known)))
    return _specs() / f"{name}.yaml"


def shipped_studies() -> dict[str, Path]:
    """The study files that come with pcgraph, by name."""
    return {path.stem: path for path in sorted((_specs() / "studies").glob("*.yaml"))}


def photos() -> list[str]:
    """Names of the photographs that come with pcgraph, sorted."""
    return sorted(path.stem for path in _PHOTOS.glob("*.jpg"))


def photo(name: str) -> Path:
    """The file of a shipped photograph, an RGB JPEG.

    Args:
        name: The file's name without ``.jpg``, such as ``coffee``.

    Raises:
        InputError: No photograph of this name is shipped.
    """
    known = photos()
    if name not in known:
        raise InputError(Fault(f"no shipped photograph is called '{name}'", hint=closest(name, known)))
    return _PHOTOS / f"{name}.jpg"
