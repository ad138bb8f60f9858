"""Commands in an empty folder, a small spec to run them on, and small pictures to train on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pcgraph.cli import app

SMALL = """\
name: small
backbone: {model: "python:tests.goldens.nets:chain", input: [3, 16, 16]}
nodes: {e1: "1", e2: "3", e3: "5"}
feedback: chain
schedule: {order: sweep, steps: 2}
"""


class Outcome:
    """What a command printed, and its exit status."""

    def __init__(self, result: Any) -> None:
        self.status: int = result.exit_code
        self.out: str = result.stdout
        self.err: str = result.stderr
        # anything but a clean exit is a bug of ours, whatever the test is about
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.err.splitlines()[-1])["faults"]
        return found


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # a library that asks for the terminal's width may set it

    def run(*arguments: object) -> Outcome:
        return Outcome(CliRunner().invoke(app, [str(argument) for argument in arguments]))

    return run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A spec of a chain of three nodes; needs --trust."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Ten small pictures in two classes."""
    draw = np.random.default_rng(0)
    for index in range(10):
        folder = tmp_path / "pictures" / ("odd" if index % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return "folder:pictures"
