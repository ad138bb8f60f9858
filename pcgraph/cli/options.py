"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pcgraph.spec import Spec

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only: no remarks, no progress.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Import 'python:' objects (this runs their code), from this folder too."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists already.")]
SpecFile = Annotated[
    str,
    typer.Argument(
        metavar="SPEC", help="A spec file (.yaml, .json, .toml), or the name of a spec that pcgraph ships."
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="torchvision:NAME, timm:NAME, or python:PACKAGE.MODULE:NAME (--trust)."
    ),
]


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``3,224,224``."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise typer.BadParameter(f"expected whole numbers such as 3,224,224, got '{text}'")
    return shape


InputShape = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="SHAPE", help="Shape of one image, such as 3,224,224. Left out: the model's own."
    ),
]


def input_shape(text: str | None) -> tuple[int, ...] | None:
    """The shape that ``--input`` gives, if it is given."""
    return None if text is None else parse_shape(text)


def trusted(trust: bool) -> bool:
    """Let trusted objects be found in the current folder, as ``python -m`` does; gives ``trust``."""
    import sys

    if trust and "" not in sys.path:
        sys.path.insert(0, "")
    return trust


def read_spec(reference: str) -> Spec:
    """Load a spec file, or the shipped spec of that name.

    Raises:
        SpecError: There is no such spec, or it is not valid.
    """
    from pcgraph.errors import Fault, SpecError, closest
    from pcgraph.resources import shipped_spec, shipped_specs
    from pcgraph.spec import load_spec

    path = Path(reference)
    if path.suffix or path.exists() or len(path.parts) > 1:
        return load_spec(path)
    if reference in shipped_specs():
        return load_spec(shipped_spec(reference))
    raise SpecError(
        Fault(
            f"no such file, and no shipped spec is called '{reference}'",
            hint=closest(reference, shipped_specs()),
        )
    )


def beside_spec(weights: str | None, spec: Path) -> str | None:
    """A weight file as a spec names it: seen from the spec's folder. Other weights stay as they are."""
    from pcgraph.tracing.weights import PACKAGE, is_file_reference

    if (
        weights is None
        or not is_file_reference(weights)
        or weights.startswith(PACKAGE)
        or os.path.isabs(weights)
    ):
        return weights
    return Path(os.path.relpath(weights, spec.parent)).as_posix()
