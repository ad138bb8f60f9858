"""What is promised of versions is written once: pyproject.toml, the constraints and the page agree."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
TOOLS = {"dev", "docs"}
"""Extras of tools that pcgraph does not run with."""
NAME = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?(?:[=>]=([\d.]+))?$")


@pytest.fixture(scope="module")
def base_install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("base_install", ROOT / ".ci" / "base_install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def release(version: str) -> tuple[int, ...]:
    """A version's numbers, without zeros at the end."""
    return tuple(map(int, re.sub(r"(\.0)+$", "", version).split(".")))


def minima() -> dict[str, tuple[int, ...]]:
    """The oldest version of each package that pyproject.toml allows."""
    extras = [one for extra, packages in EXTRAS.items() if extra not in TOOLS for one in packages]
    found = {}
    for requirement in [*PROJECT["dependencies"], *extras]:
        match = NAME.match(requirement)
        assert match is not None, requirement
        name, version = match.groups()
        if name != "pcgraph":
            assert version is not None, f"{requirement} says no version"
            found[name.lower()] = release(version)
    return found


def constraints() -> dict[str, tuple[int, ...]]:
    lines = (ROOT / "constraints" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower(): release(version) for name, version in pairs}


def test_the_constraints_are_the_minima() -> None:
    assert constraints() == minima()


def test_the_lowest_python_is_the_one_that_is_tested() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert "PYTHON_LOWEST:-python3.11" in (ROOT / ".ci" / "versions").read_text(encoding="utf-8")


def test_the_page_tells_what_each_command_needs(base_install: ModuleType) -> None:
    """Each command has its row, or several; extras are those of pyproject.toml; words are understood."""
    from pcgraph.cli import app

    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = base_install.rows(text)
    group = typer.main.get_command(app)
    assert {command.split()[0] for command, _ in rows} == set(group.commands) - {"import"}  # it needs files
    assert {extra for _, extra in rows if extra} <= set(EXTRAS)
    assert len(rows) == text.count("\n| `pcgraph ")
    for command, _ in rows:
        name, *words = command.split()
        group.commands[name].make_context(name, words)


@pytest.mark.parametrize(
    ("status", "message", "extra", "wrong"),
    [
        (0, "", "", ""),
        (2, "needs it\n  pip install 'pcgraph[plot]'", "plot", ""),
        (2, "no such file", "", "should work without extras"),
        (2, "needs it\n  pip install 'pcgraph[plot]'", "timm", "should name the extra 'timm'"),
        (0, "", "plot", "should name the extra 'plot'"),
        (1, "Traceback (most recent call last)", "", "crashed"),
        (-9, "", "", "crashed"),
    ],
)
def test_how_a_command_ended(
    base_install: ModuleType, status: int, message: str, extra: str, wrong: str
) -> None:
    assert base_install.verdict(status, message, extra) == wrong
