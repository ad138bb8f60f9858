"""The networks that benchmarks run: each as a pcgraph network, and with hooks."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import torch
import torchvision
from hook_style import HookNetwork
from safetensors.torch import save_file
from torch import nn

import pcgraph as pcg
from pcgraph.files.shipped import shipped_spec
from pcgraph.predictors.fast.large_kernels import PartedConvTranspose2d
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d


def pair(name: str) -> tuple[pcg.PCNetwork, HookNetwork]:
    """A shipped spec with a torchvision model of random weights, twice."""
    network, parts = network_and_parts(name)
    return network, HookNetwork(**parts)


def network_and_parts(name: str) -> tuple[pcg.PCNetwork, dict[str, Any]]:
    """A shipped spec with a model of random weights, and what a `HookNetwork` of it is made of."""
    spec = pcg.load_spec(shipped_spec(name))
    assert spec.backbone is not None
    torch.manual_seed(0)
    model = torchvision.models.get_model(str(spec.backbone.model).removeprefix("torchvision:"))
    model = model.eval().requires_grad_(False)
    network = pcg.build(spec, model=model)
    network.requires_grad_(False)
    names = ["input", *spec.nodes]
    edges = [f"{upper}->{lower}" for lower, upper in itertools.pairwise(names)]
    dynamics = network.dynamics
    values = dynamics.values()
    gains = [{key: values[node, key] for key in ("feedforward", "feedback", "error")} for node in spec.nodes]
    return network, {
        "model": copy.deepcopy(model),
        "modules": [spec.nodes[node].module for node in spec.nodes],
        "predictors": [layer_by_layer(network.predictors[edge]) for edge in edges],
        "gains": gains,
        "reach": [dynamics.reach[edge] for edge in edges],
    }


def keep_baseline(name: str, path: Path) -> Path:
    """Write what `hooks_alone.py` makes the baseline of; the path."""
    torch.save(network_and_parts(name)[1], path)
    return path


def keep_both(name: str, folder: Path) -> tuple[Path, Path]:
    """Write a network as a spec with its weights, and what the baseline of it is made of; both paths."""
    network, parts = network_and_parts(name)
    torch.save(parts, folder / "parts.pt")
    save_file(parts["model"].state_dict(), folder / "model.safetensors")
    network.save_weights(folder / "predictors.safetensors")
    spec = network.spec.model_dump(mode="json", exclude_unset=True)
    spec["backbone"]["weights"] = "model.safetensors"
    (folder / "spec.json").write_text(json.dumps({**spec, "weights": "predictors.safetensors"}))
    return folder / "spec.json", folder / "parts.pt"


def layer_by_layer(predictor: nn.Module) -> nn.Module:
    """A copy of the predictor without our shortcuts for its layers."""
    if isinstance(predictor, UpsampledConvTranspose2d):
        return nn.Sequential(*copy.deepcopy(predictor))
    plain = copy.deepcopy(predictor)
    for layer in plain.modules():
        if isinstance(layer, PartedConvTranspose2d):
            layer.__class__ = nn.ConvTranspose2d
    return plain
