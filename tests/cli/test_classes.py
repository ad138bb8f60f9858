"""The order of the classes on the command line and in specs; labels in another order are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pcgraph.datasets import digits
from tests.cli.conftest import Cli

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FAST = ("--out", "r", "--device", "cpu")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """100 digits in folders of their English names."""
    data = digits()
    for place in range(100):
        path = tmp_path / "words" / WORDS[int(data.test_labels[place])] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.test_images[place, 0] * 255).byte().numpy()).save(path)
    (tmp_path / "order.txt").write_text("\n".join(WORDS))
    return tmp_path / "words"


def accuracy(folder: Path) -> float:
    lines = (folder / "evaluation.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=False)) for line in lines[1:]]
    return next(float(row["value"]) for row in rows if row["metric"] == "accuracy" and row["step"] == "0")


@pytest.mark.heavy
def test_evaluate(cli: Cli, words: Path, tmp_path: Path) -> None:
    run = ("evaluate", "digits", "--data", f"folder:{words}", "--steps", 1, *FAST, "--force")
    done = cli(*run, "--json")
    assert done.json["warnings"][0].startswith("Warning: the labels look permuted")
    assert done.json["permuted"]
    assert accuracy(tmp_path / "r") < 0.2
    for order in ("order.txt", ",".join(WORDS)):
        done = cli(*run, "--classes", order, "--json")
        assert done.json["permuted"] is None
        assert accuracy(tmp_path / "r") > 0.9
    done = cli(*run, "--classes", "words.txt")
    assert done.status == 2
    assert "no such file of classes" in done.err
    assert accuracy(tmp_path / "r") > 0.9  # what was there stays


@pytest.mark.heavy
def test_in_the_spec(cli: Cli, words: Path, tmp_path: Path) -> None:
    spec = {"extends": "digits", "name": "worded", "backbone": {"classes": "order.txt"}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(spec))
    assert cli("check", "s.yaml").status == 0
    done = cli("evaluate", "s.yaml", "--data", f"folder:{words}", "--steps", 1, *FAST, "--json")
    assert done.json["permuted"] is None
    assert accuracy(tmp_path / "r") > 0.9
    done = cli("run", "s.yaml", words / "seven", "--steps", 1, "--out", "run", "--json")
    first = next(iter(done.json["classes"].values()))
    assert first[0][0]["class"] in WORDS
    (tmp_path / "order.txt").write_text("one\none\n")
    done = cli("check", "s.yaml")
    assert done.status == 2
    assert "backbone.classes: " in done.err
    assert "'one' is the name of two classes" in done.err


@pytest.mark.heavy
@pytest.mark.parametrize("command", ["tune", "train"])
def test_training(cli: Cli, words: Path, tmp_path: Path, command: str) -> None:
    spec = {"extends": "digits", "name": "s", "train": {"task": "through_time", "steps": 1, "batch": 50}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(spec))
    run = (
        command,
        "s.yaml",
        "--data",
        f"folder:{words}",
        "--epochs",
        1,
        "--tracker",
        "none",
        *FAST,
        "--force",
    )
    done = cli(*run)
    assert done.status == 0, done.err
    assert "the labels look permuted" in done.err
    done = cli(*run, "--classes", "order.txt")
    assert "permuted" not in done.err
    done = cli(*run, "--classes", "one,two")
    assert done.status == 2
    assert "is none of the classes" in done.err


def test_resume_with_another_order_is_refused(cli: Cli, words: Path, tmp_path: Path) -> None:
    run = ("evaluate", "digits", "--data", f"folder:{words}", "--steps", 1, *FAST)
    assert cli(*run).status == 0
    done = cli(*run, "--classes", "order.txt", "--resume")
    assert done.status == 2
    assert json.loads((tmp_path / "r" / "run.json").read_text())["permuted"]
