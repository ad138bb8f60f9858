"""Packages that single analyses need, imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

from pcgraph.errors import Fault, InputError


def need(module: str, extra: str, what: str) -> Any:
    """Import a module of an extra.

    Args:
        module: Its name.
        extra: The extra of pcgraph that installs it.
        what: What needs it.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        hint = f"pip install 'pcgraph[{extra}]'"
        raise InputError(Fault(f"{what}: {package} is not installed", hint=hint)) from None
