"""What a study with a search prints and writes, against its own numbers and those of a search by hand."""

from __future__ import annotations

import csv
import html
import json
from pathlib import Path

import numpy as np
import pytest

from pcgraph.cli import app
from tests.study.files import EVALUATE, written

SEARCH = {
    "trials": 6,
    "batch": 3,
    "edges": "all",
    "each": {"delay": [1, 2]},
    "fields": {"dynamics.feedback": {"low": 0.1, "high": 0.5}},
    "objectives": ["accuracy", "multiply_adds"],
    "limit": 30,
    "prune": 0.7,
}
NOISY = {**EVALUATE, "noise": {"gaussian": [1.0], "salt_pepper": [0.2]}, "unseen": {"blur": [2.0]}}
Lines = list[dict[str, str]]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    changes = {"search": SEARCH, "evaluate": NOISY, "reference": "chain", "contrasts": [["found", "none"]]}
    file = written(folder, **changes, arms={"none": "none", "chain": "chain"})
    with pytest.raises(SystemExit) as ended:
        app(["study", str(file), "--out", str(folder / "out"), "--workers", "1", "--quiet"])
    assert ended.value.code == 0
    return folder / "out"


def read(out: Path, name: str) -> Lines:
    return list(csv.DictReader((out / name).open(encoding="utf-8")))


def whole(lines: Lines) -> list[tuple[int, float, int]]:
    """Number, accuracy and multiply-adds of the proposals that were measured."""
    return [
        (int(one["trial"]), float(one["accuracy"]), int(one["multiply_adds"]))
        for one in lines
        if one["outcome"] == "complete"
    ]


@pytest.mark.heavy
def test_the_best_on_held_out_images_becomes_an_arm_with_fresh_seeds(out: Path) -> None:
    lines = read(out, "search.csv")
    best = min(whole(lines), key=lambda one: (-one[1], one[2], one[0]))
    (chosen,) = [one for one in lines if one["chosen"] == "1"]
    assert int(chosen["trial"]) == best[0]
    edges = {name for name, value in chosen.items() if value == "True"}
    (arm,) = [one for one in read(out, "arms.csv") if one["arm"] == "found"]
    assert set(arm["edges"].split()) == edges
    assert int(arm["multiply_adds"]) == best[2]
    rows = [one for one in read(out, "study.csv") if one["arm"] == "found"]
    assert {one["seed"] for one in rows} == {"0", "1"}
    assert {one["part"] for one in rows} == {"test"}
    for cell in (out / "cells").iterdir():  # the search saw neither a test image nor what is unseen
        record = json.loads((cell / "cell.json").read_text())
        if record["content"]["seed"] == 1_000_000 and record["kind"] == "measure":
            assert record["content"]["part"] == "held_out"
            assert record["content"]["limit"] == 30
            assert "blur" not in record["content"]["condition"]


@pytest.mark.heavy
def test_how_sure_it_is_comes_from_the_test_images(out: Path) -> None:
    def right(arm: str) -> np.ndarray:
        rows = [one for one in read(out, "study.csv") if one["arm"] == arm and one["step"] == "2"]
        seen = [one for one in rows if one["noise"] in ("gaussian", "salt_pepper")]
        return np.array([float(one["accuracy"]) for one in seen])

    compared = read(out, "comparisons.csv")
    assert [(one["first"], one["second"], one["over"]) for one in compared] == [
        ("none", "chain", "noise"),
        ("found", "chain", "noise"),
        ("found", "none", "noise"),
        ("found", "none", "unseen"),
    ]
    difference = float(compared[1]["difference"])
    assert difference == pytest.approx(right("found").mean() - right("chain").mean())
    text = (out / "report.html").read_text(encoding="utf-8")
    assert ">Search<" in text
    assert f"{100 * difference:+.1f} points to" in text
    cells = [json.loads((one / "cell.json").read_text()) for one in (out / "cells").iterdir()]
    (first, second) = [one for one in cells if one["kind"] == "stability"]  # of what is found, with each seed
    assert {first["content"]["seed"], second["content"]["seed"]} == {0, 1}
    told = html.unescape(text)
    assert "'found' settles: 16 of 16 runs" in told or "Warning: 'found'" in told
    assert not (out / "stability.csv").exists()
    lines = list(csv.reader((out / "arms.csv").open(encoding="utf-8")))
    assert "spectral_radius" not in lines[0]
    assert {len(line) for line in lines} == {len(lines[0])}


@pytest.mark.heavy
def test_the_front_is_what_no_other_proposal_beats(out: Path) -> None:
    lines = read(out, "search.csv")
    front = {(float(one["accuracy"]), int(one["multiply_adds"])) for one in lines if one["front"] == "1"}
    expected, cheapest = set(), np.inf
    for _, accuracy, cost in sorted(whole(lines), key=lambda one: (-one[1], one[2])):
        if cost < cheapest:
            expected.add((accuracy, cost))
            cheapest = cost
    assert front == expected
    assert [one["outcome"] for one in lines].count("pruned") == 6 - len(whole(lines))
    assert lines[-1]["outcome"] == "reference"
    assert {f"search.{kind}" for kind in ("png", "svg", "pdf")} <= {one.name for one in out.iterdir()}


@pytest.mark.heavy
def test_a_plan_says_what_a_search_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, search=SEARCH, evaluate=NOISY, seeds=1)
    with pytest.raises(SystemExit):
        app(["study", str(file), "--out", str(tmp_path / "out"), "--plan"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Search: 6 trials come first" in said
    assert "'found' stands for what they find" in said
    assert not (tmp_path / "out").exists()
