"""Numbers are on the disk before anything is drawn of them."""

from __future__ import annotations

import csv
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Cli

from . import contents
from .test_places import COMMANDS

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize(
    ("command", "where", "drawing"),
    [
        ("run", "run", "run_figures"),
        ("query", "query", "query_figures"),
        ("evaluate", "evaluate", "drawing"),
        ("run", "report", "missing"),
        ("train", "report", "missing"),
    ],
)
def test_what_cannot_be_drawn_costs_no_number(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, command: str, where: str, drawing: str
) -> None:
    assert cli(*COMMANDS[command], "--out", "whole").status == 0

    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("$x$ is no formula\nsecond line")

    with pytest.MonkeyPatch.context() as patch:
        module = import_module(f"pcgraph.cli.{where}")
        if drawing == "missing":
            patch.setattr(module, "missing", lambda: None)
            patch.setattr("pcgraph.report.page.report_page", broken)
        else:
            patch.setattr(module, drawing, broken)
        outcome = cli(*COMMANDS[command], "--out", "r")
    assert outcome.status == 2
    what = "the report" if drawing == "missing" else "the figures"
    assert f"r: {what} could not be made: $x$ is no formula\n  The numbers are complete" in outcome.err
    assert contents(tmp_path / "r") == contents(tmp_path / "whole")
    assert json.loads((tmp_path / "r" / "run.json").read_text())["files"]


def test_a_name_that_is_no_utf8(cli: Cli, small: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 $1.png")
    try:
        Image.new("RGB", (16, 16), "red").save(tmp_path / name)
    except OSError:
        pytest.skip("this disk has no such names")
    outcome = cli("run", "small.yaml", name, "--trust", "-q", "--out", "r")
    assert outcome.status == 0, outcome.err
    assert json.loads((tmp_path / "r" / "run.json").read_text())["images"][0]["name"] == name
    with (tmp_path / "r" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        assert {row["image"] for row in csv.DictReader(file)} == {"caf\\xe9 $1.png"}
