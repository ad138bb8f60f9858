"""Any topology: `pcgraph new`, `pcgraph check`, then two steps, for every kind of network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from typer.testing import CliRunner

import pcgraph as pcg
from pcgraph.cli import app

pytestmark = pytest.mark.heavy

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
SMALL = ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"]
FROM_TIMM = ["resnet10t", "mobilevitv2_050", "vit_tiny_patch16_224"]
MORE_FROM_TIMM = ["coatnet_nano_rw_224", "ghostnet_050"]


def check_two_steps(model: str, folder: Path) -> None:
    spec = folder / "spec.yaml"
    for command in (["new", model, "-o", str(spec)], ["check", str(spec)]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.stderr
    network = pcg.build(spec)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, *network.graph.nodes["input"].shape, generator=generator)
    run = pcg.Scheduler(network).run(images, steps=2, record=["output", "values"])
    assert all(torch.isfinite(value).all() for series in run.values.values() for value in series)
    assert torch.isfinite(run.output[2]).all()
    with torch.no_grad():
        assert torch.equal(run.output[0], network.drive.model(images))
    assert len(network.graph.nodes) >= 3
    moved = [name for name, series in run.values.items() if not torch.equal(series[2], series[0])]
    assert set(moved) == set(network.graph.nodes) - {"input"}


def test_torchvision_still_lists_its_80_classifiers() -> None:
    assert len(CLASSIFIERS) >= 80


@pytest.mark.parametrize("name", SMALL)
def test_small_classifiers_of_torchvision(name: str, tmp_path: Path) -> None:
    check_two_steps(f"torchvision:{name}", tmp_path)


@pytest.mark.parametrize("name", FROM_TIMM)
def test_models_of_timm(name: str, tmp_path: Path) -> None:
    check_two_steps(f"timm:{name}", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_FROM_TIMM)
def test_more_models_of_timm(name: str, tmp_path: Path) -> None:
    check_two_steps(f"timm:{name}", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name not in SMALL])
def test_every_other_classifier_of_torchvision(name: str, tmp_path: Path) -> None:
    check_two_steps(f"torchvision:{name}", tmp_path)
