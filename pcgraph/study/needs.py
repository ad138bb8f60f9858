"""What a study needs besides the base installation."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pcgraph.errors import Fault, InputError, ModelError
from pcgraph.files.weights import find_weights
from pcgraph.spec.weights import file_of, is_file_reference

if TYPE_CHECKING:
    from pcgraph.study.arms import Arms

PACKAGES = ("accelerate", "scipy")


def check_available() -> None:
    """Make sure, before the work begins, that nothing is missing at its end.

    Raises:
        InputError: A package is not installed.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        what = f"a study needs {' and '.join(missing)}, which {verb} not installed"
        raise InputError(Fault(what, hint="pip install 'pcgraph[study]'"))


def missing_weights(arms: Arms) -> list[Fault]:
    """What is wrong if the backbone's weights are a file that is not there; a study is planned without."""
    spec = arms.wirings[0].spec
    weights = spec.backbone.weights if spec.backbone is not None else None
    if weights is None or not is_file_reference(weights):
        return []
    try:
        find_weights(file_of(weights), spec.folder)
    except ModelError as error:
        return [arms.study.located(replace(fault, path=("base",), where="")) for fault in error.faults]
    return []
