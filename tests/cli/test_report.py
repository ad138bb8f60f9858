"""``report``: run folders become one page, or one clear fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.folders import evaluated, trained

from .conftest import Cli


def test_a_run_gets_its_page_beside_its_numbers(cli: Cli, tmp_path: Path) -> None:
    evaluated(tmp_path / "one")
    outcome = cli("report", "one")
    assert outcome.status == 0
    assert outcome.out.strip() == "Report: one/report.html"
    assert "<h2>Evaluation</h2>" in (tmp_path / "one" / "report.html").read_text()
    assert cli("report", "one").status == 0  # it is made of the run, so it may be made again


def test_several_runs_on_one_page(cli: Cli, tmp_path: Path) -> None:
    evaluated(tmp_path / "one")
    trained(tmp_path / "two")
    outcome = cli("report", "one", "two", "-o", "both.html", "--json")
    assert outcome.json == {"report": "both.html", "runs": ["one", "two"]}
    text = (tmp_path / "both.html").read_text()
    assert "<h2>Evaluation</h2>" in text
    assert "<h2>Training</h2>" in text
    again = cli("report", "one", "two", "-o", "both.html")
    assert (again.status, again.err.strip()) == (
        2,
        "both.html: exists already\n  Choose another name, or --force.",
    )
    assert cli("report", "one", "two", "-o", "both.html", "--force", "--quiet").out == "Report: both.html\n"


def test_a_damaged_run_is_a_fault_with_its_line_and_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    evaluated(tmp_path / "one")
    table = tmp_path / "one" / "evaluation.csv"
    table.write_text(table.read_text().replace("digits,clean,0.0,1", "digits,clean,none,1"))
    outcome = cli("report", "one", "--json")
    assert (outcome.status, outcome.out) == (2, "")
    (fault,) = outcome.faults
    assert fault["where"] == "one/evaluation.csv:4"
    assert fault["message"] == "level: expected a number, got 'none'"
    assert not (tmp_path / "one" / "report.html").exists()


def test_what_is_no_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in (
        ("empty", "empty: is no run folder"),
        ("nowhere", "nowhere: there is no such folder"),
    ):
        outcome = cli("report", folder)
        assert outcome.status == 2
        assert outcome.err.startswith(message)
    evaluated(tmp_path / "one")
    assert "expected a file that ends in .html or .htm" in cli("report", "one", "-o", "page.pdf").err


def test_without_matplotlib(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated(tmp_path / "one")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = cli("report", "one")
    assert outcome.status == 2
    assert "pip install 'pcgraph[plot]'" in outcome.err
