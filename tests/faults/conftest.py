"""Commands in an empty folder, small enough to be run hundreds of times."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import SMALL, cli

from . import hidden

__all__ = ["cli"]


@pytest.fixture(autouse=True)
def nothing_hidden(tmp_path: Path) -> Iterator[None]:
    """After every test here: nothing hidden is left behind."""
    yield
    assert hidden(tmp_path) == []


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time, and are drawn when the numbers are on the disk; see `test_figures.py`."""
    for name, drawing in (("run", "run_figures"), ("evaluate", "drawing"), ("query", "query_figures")):
        monkeypatch.setattr(import_module(f"pcgraph.cli.{name}"), drawing, lambda *_: {})
    monkeypatch.setattr(import_module("pcgraph.cli.report"), "missing", lambda: "matplotlib")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A spec of a chain of three nodes; needs --trust."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve small pictures in ten classes."""
    return draw_pictures(tmp_path / "pictures")


def draw_pictures(folder: Path, classes: int = 10, seed: int = 0) -> Path:
    """Twelve random pictures in class folders."""
    generator = np.random.default_rng(seed)
    for number in range(12):
        path = folder / f"class{number % classes}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder
