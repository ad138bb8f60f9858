"""The networks that benchmarks run: each as a pcgraph network, and with hooks."""

from __future__ import annotations

import copy
import itertools

import torch
import torchvision
from hook_style import HookNetwork
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.files.shipped import shipped_spec
from pcgraph.predictors.fast.large_kernels import PartedConvTranspose2d
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d


def pair(name: str) -> tuple[pcg.PCNetwork, HookNetwork]:
    """A shipped spec with a torchvision model of random weights, twice."""
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
    hooks = HookNetwork(
        copy.deepcopy(model),
        [spec.nodes[node].module for node in spec.nodes],
        [layer_by_layer(network.predictors[edge]) for edge in edges],
        gains,
        [dynamics.reach[edge] for edge in edges],
    )
    return network, hooks


def layer_by_layer(predictor: nn.Module) -> nn.Module:
    """A copy of the predictor without our shortcuts for its layers."""
    if isinstance(predictor, UpsampledConvTranspose2d):
        return nn.Sequential(*copy.deepcopy(predictor))
    plain = copy.deepcopy(predictor)
    for layer in plain.modules():
        if isinstance(layer, PartedConvTranspose2d):
            layer.__class__ = nn.ConvTranspose2d
    return plain


def images(batch: int) -> Tensor:
    """Random ones, always the same."""
    return torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
