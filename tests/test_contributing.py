"""The recipes of CONTRIBUTING.md work: each is followed on a copy of the code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RECIPES = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE))
LINES = 10
"""What a recipe may take, without empty lines and the check."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("pcgraph", "specs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edit(file: Path, hunks: str) -> None:
    """Change a file: lines without a mark stay and show the place; `...` leaves some out."""
    text = file.read_text(encoding="utf-8")
    for hunk in hunks.split("...\n"):
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if line[0] != "+")
        after = "\n".join(line[1:] for line in lines if line[0] != "-")
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")


def follow(recipe: str, tree: Path) -> None:
    for language, block in FENCE.findall(recipe):
        if language == "console":
            continue
        name, text = block.removeprefix("# ").split("\n", 1)
        if language == "diff":
            edit(tree / name, text)
        else:
            (tree / name).write_text(text, encoding="utf-8")


def check(recipe: str, tree: Path) -> subprocess.CompletedProcess[str]:
    (command,) = re.findall(r"^\$ python (.*)$", recipe, re.MULTILINE)
    words = [sys.executable, *shlex.split(command)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def test_the_recipes_that_there_are() -> None:
    assert set(RECIPES) == {"A command", "A predictor", "A learning rule", "A corruption"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short_and_works(name: str, tree: Path) -> None:
    recipe = RECIPES[name]
    written = [
        line
        for language, block in FENCE.findall(recipe)
        if language != "console" and "# check.py" not in block
        for line in block.splitlines()[1:]
        if (line.startswith("+") if language == "diff" else True) and line.strip("+ ")
    ]
    assert len(written) <= LINES, written
    assert check(recipe, tree).returncode != 0, "the check finds nothing"
    follow(recipe, tree)
    done = check(recipe, tree)
    assert done.returncode == 0, done.stderr
