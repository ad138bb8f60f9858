"""The random wirings of `benchmarks/stability.py`, for tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "stability.py"


def benchmark() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_of_stability", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_of_stability"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
