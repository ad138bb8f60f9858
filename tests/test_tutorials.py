"""Every tutorial runs, as a script, from an empty folder."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parent.parent / "tutorials").glob("*.py"))
MARKS = {"2": [], "4": [pytest.mark.slow]}
"""The others are heavy; the fourth trains for over a minute."""


def test_there_are_tutorials() -> None:
    assert TUTORIALS


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, marks=MARKS.get(path.stem[0], pytest.mark.heavy)) for path in TUTORIALS],
    ids=lambda path: path.stem,
)
def test_tutorial_runs(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
