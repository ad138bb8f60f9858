"""What a study needs besides the base installation."""

from __future__ import annotations

from importlib.util import find_spec

from pcgraph.errors import Fault, InputError

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
