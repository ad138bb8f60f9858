"""The spec language: where weights come from; and where a file is, seen from another folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from pcgraph.errors import ModelError
from pcgraph.files.weights import PACKAGE, find_weights, weight_path, weights_digest
from pcgraph.spec.model import Model
from pcgraph.spec.source import show
from pcgraph.spec.values import refuse, weights_name


def _digest(text: str) -> str:
    if not re.fullmatch(DIGEST, text):
        raise refuse(f"expected 64 digits 0-9 and a-f, got {show(text)}", "Write it as sha256sum prints it.")
    return text


DIGEST = "^[0-9a-f]{64}$"
FileName = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, AfterValidator(_digest), Field(json_schema_extra={"pattern": DIGEST})]


class WeightFile(Model):
    """A weight file, with what it must be."""

    file: FileName
    """A path relative to the spec's file, or `package:PACKAGE/FILE`."""
    sha256: Digest | None = None
    """SHA-256 that the file must have, of an index that of the `sha256sum` lines of all its files. Run
    folders' specs have it. Left out: any file of that name."""


class PredictorFile(WeightFile):
    """The long form of a file with the predictors' weights; `weights: FILE` is the short one."""

    strict: bool = True
    """Whether the file has the weights of this wiring's edges, and no others. If not, it is a bank: edges
    that it lacks stay untrained, others that it has are passed over, and both are told."""


class Checkpoint(WeightFile):
    """The long form of a weight file of the backbone; `weights: FILE` is the short one."""

    part: str | None = None
    """Which of the weights in the file, where it holds several: the key, or the first part of the names,
    such as `ema` or `state_dict.teacher`. Left out: the only ones that fit the model."""


def _form(value: Any) -> str:
    return "<file>" if isinstance(value, (dict, WeightFile)) else "<name>"


PredictorWeights = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[PredictorFile, Tag("<file>")], Discriminator(_form)
]
BackboneWeights = Annotated[
    Annotated[
        Annotated[str, Tag("<name>")] | Annotated[Checkpoint, Tag("<file>")],
        Discriminator(_form),
    ]
    | None,
    BeforeValidator(weights_name),
]


def is_file_reference(weights: str | WeightFile) -> bool:
    """Whether a file is meant, and not a name of the model's library: those have neither '.' nor '/'."""
    marked = isinstance(weights, str) and (weights.startswith(PACKAGE) or any(c in weights for c in "./\\"))
    return marked or isinstance(weights, WeightFile)


def library_name(weights: str | WeightFile | None) -> str | None:
    """The weights' name in the model's library; None for a file, and for no weights."""
    return weights if isinstance(weights, str) and not is_file_reference(weights) else None


def file_of(weights: str | WeightFile) -> str:
    """The file as it is written."""
    return weights.file if isinstance(weights, WeightFile) else weights


def with_file(weights: str | WeightFile, file: str) -> str | WeightFile:
    """The same weights, with the file written in another way."""
    return weights.model_copy(update={"file": file}) if isinstance(weights, WeightFile) else file


def rooted_file(file: str, folder: Path) -> str:
    """The full path of a weight file, its folder resolved, so that it holds everywhere.

    The file itself may be a link: what belongs to it lies beside the link.
    """
    if file.startswith(PACKAGE):
        return file
    path = weight_path(file, folder)
    return str(path.parent.resolve() / path.name)


def shifted_file(file: str, shift: str) -> str:
    """A relative path as it is written from another folder, which sees its folder as ``shift``."""
    if file.startswith(PACKAGE) or os.path.isabs(os.path.expanduser(file)):
        return file
    path = Path(os.path.normpath(Path(shift) / file)).as_posix()
    return path if is_file_reference(path) and not path.startswith((PACKAGE, "~")) else f"./{path}"


def pinned_file(weights: str | WeightFile, folder: Path, form: type[WeightFile]) -> str | WeightFile:
    """The long form, with the digest that the file has now, if none was written and there is the file."""
    found = weights if isinstance(weights, WeightFile) else form(file=weights)
    if found.sha256 is not None:
        return found
    try:
        return found.model_copy(update={"sha256": weights_digest(find_weights(found.file, folder))})
    except ModelError:  # it went away since it was loaded, which is no reason to lose what was made with it
        return weights
