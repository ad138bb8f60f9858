"""Python objects named in a spec: ``python:PACKAGE.MODULE:NAME``."""

from __future__ import annotations

import importlib
from typing import Any

from pcgraph.errors import Fault, ModelError, closest

PREFIX = "python:"


def import_object(ref: str, *, trust: bool) -> Any:
    """Import the object that ``python:PACKAGE.MODULE:NAME`` names.

    Args:
        ref: The reference; ``NAME`` may be dotted (``Class.method``).
        trust: Importing runs foreign code, so it happens only where the caller says so.

    Raises:
        ModelError: Not trusted, malformed, or there is no such module or name.
    """
    module_name, _, name = ref.removeprefix(PREFIX).partition(":")
    if not (ref.startswith(PREFIX) and module_name and name):
        raise ModelError(
            Fault(
                f"'{ref}' does not name a Python object",
                hint="Write 'python:PACKAGE.MODULE:NAME', for example 'python:my_nets.small:Net'.",
            )
        )
    if not trust:
        raise ModelError(
            Fault(
                f"'{ref}' would run code of the Python package '{module_name.partition('.')[0]}'",
                hint="If you trust it, pass trust=True, or --trust on the command line.",
            )
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise ModelError(f"'{ref}': importing '{module_name}' failed: {error}") from error
        raise ModelError(
            Fault(
                f"'{ref}': there is no Python module '{error.name}'",
                hint="Install it, or run 'python -m pcgraph' in the folder that holds it.",
            )
        ) from error
    except Exception as error:
        message = f"'{ref}': importing '{module_name}' failed: {type(error).__name__}: {error}"
        raise ModelError(message) from error
    for part in name.split("."):
        if not hasattr(found, part):
            names = [known for known in dir(found) if not known.startswith("_")]
            raise ModelError(Fault(f"'{ref}': '{module_name}' has no '{part}'", hint=closest(part, names)))
        found = getattr(found, part)
    return found
