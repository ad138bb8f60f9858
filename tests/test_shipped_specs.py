"""Every spec that is shipped: it loads, fits its model, and starts as the plain network."""

from __future__ import annotations

import itertools
import json

import pytest
import timm
import torch
import torchvision
from torch import nn

import pcgraph as pcg
from pcgraph.analysis.stability import growth
from pcgraph.files.shipped import shipped_spec, shipped_specs
from pcgraph.spec import Spec, json_schema
from pcgraph.tracing.builtin import DigitsCNN

SPECS = {name: pcg.load_spec(shipped_spec(name)) for name in shipped_specs()}
QUICK = ("digits", "efficientnet_lite0", "mobilenet_v3_small", "resnet18")
WITH_BACKBONE = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.heavy)
    for name, spec in SPECS.items()
    if spec.backbone
]


def plain_model(spec: Spec) -> nn.Module:
    """The backbone as its own library makes it, with random weights."""
    assert spec.backbone is not None
    library, _, name = spec.backbone.model.partition(":")
    torch.manual_seed(1)
    if library == "timm":
        return timm.create_model(name).eval()
    if library == "pcgraph":
        return DigitsCNN().eval()
    extra = {"init_weights": False} if name == "inception_v3" else {}
    return torchvision.models.get_model(name, **extra).eval()


def test_the_specs_that_were_promised_are_there() -> None:
    promised = {
        *("vgg16", "efficientnet_b0", "efficientnet_b0_timm", "efficientnet_lite0", "resnet18", "resnet50"),
        *("densenet121", "mobilenet_v3_small", "inception_v3", "convnext_tiny", "pc_mlp", "pc_cycle"),
    }
    assert promised <= set(SPECS)


@pytest.mark.heavy
@pytest.mark.parametrize("name", WITH_BACKBONE)
def test_step_0_is_the_plain_network_and_a_step_moves_it(name: str) -> None:
    spec = SPECS[name]
    model = plain_model(spec)
    backbone = spec.backbone.model_copy(update={"weights": None})  # a file's would go into the model, too
    network = pcg.build(spec.model_copy(update={"weights": None, "backbone": backbone}), model=model)
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(1, *spec.backbone.input, generator=generator)
    run = pcg.Scheduler(network).run(images, steps=1, record=["output", "values", "energy"])
    with torch.no_grad():
        assert torch.equal(run.output[0], model(images))
    assert not torch.equal(run.output[1], run.output[0])
    assert all(torch.isfinite(value[1]).all() for value in run.values.values())
    feedback = [edge.name for edge in network.graph.edges.values() if edge.kind == "feedback"]
    assert len(feedback) == len(spec.nodes)  # each node predicts the one below, the first the image
    assert all(run.energy[edge][0] > 0 for edge in feedback)


SMALLER = {"inception_v3": 139, "vgg16": 64, "digits": 28}
"""Sides of images that a model takes and that are quick; 96 where none is given."""


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_BACKBONE)
def test_no_state_runs_away_in_50_steps_with_random_weights(name: str) -> None:
    spec = SPECS[name]
    channels, side, _ = spec.backbone.input
    side = min(side, SMALLER.get(name, 96))
    backbone = spec.backbone.model_copy(update={"input": (channels, side, side), "weights": None})
    plain = spec.model_copy(update={"weights": None, "backbone": backbone})
    scheduler = pcg.Scheduler(pcg.build(plain, model=plain_model(spec)))
    images = torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(4))
    assert max(growth(scheduler, images, 50, enough=10).values()) < 3


@pytest.mark.parametrize("name", ["pc_mlp", "pc_cycle"])
def test_a_network_without_backbone_lowers_its_energy(name: str) -> None:
    network = pcg.build(SPECS[name])
    generator = torch.Generator().manual_seed(3)
    image, label = torch.rand(4, 1, 28, 28, generator=generator), torch.eye(10)[:4]
    run = pcg.Scheduler(network).run(image, clamp={"label": label}, record=["energy"])
    total = [sum(energy[t].sum() for energy in run.energy.values()) for t in range(run.steps + 1)]
    assert total[-1] < total[0]
    assert all(after <= before for before, after in itertools.pairwise(total))


def test_pvgg16_is_the_published_one() -> None:
    """Facts of the published configuration, of Choksi et al. 2021."""
    spec = SPECS["vgg16"]
    assert [node.module for node in spec.nodes.values()] == [f"features.{i}" for i in (3, 8, 15, 22, 29)]
    layers = [edge.predictor[0].arguments for edge in spec.feedback]
    assert [layer["kernel_size"] for layer in layers] == [5, 10, 14, 14, 14]
    assert [layer.get("stride", 1) for layer in layers] == [1, 2, 2, 2, 2]
    assert [layer["padding"] for layer in layers] == [2, 4, 6, 6, 6]
    assert [[layer.name for layer in edge.predictor[1:]] for edge in spec.feedback] == [[]] + [["ReLU"]] * 4
    gains = [spec.dynamics.nodes[f"e{i}"] for i in range(1, 6)]
    assert [gain.feedforward for gain in gains] == [0.2, 0.4, 0.4, 0.5, 0.6]
    assert [gain.feedback for gain in gains] == [0.05, 0.1, 0.1, 0.1, 0.0]
    assert spec.dynamics.error == 0.01


def test_the_schema_beside_the_specs_is_current() -> None:
    beside = shipped_spec("vgg16").with_name("spec.schema.json")
    assert json.loads(beside.read_text()) == json_schema(), "run: pcgraph schema -o specs/spec.schema.json"
    for name in SPECS:
        assert shipped_spec(name).read_text().startswith("# yaml-language-server: $schema=spec.schema.json\n")
