"""A small network and a few images of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import pcgraph as pcg
from pcgraph.datasets import ImageData, open_data, preprocess_for, subset
from pcgraph.network import PCNetwork
from pcgraph.spec import Train

SPEC = """
name: tiny
backbone:
  model: "python:tests.training.nets:tiny"
  input: [1, 12, 12]
  preprocess: {mean: [0.5], std: [0.5]}
nodes: {e1: "1", e2: "3"}
feedback: chain
schedule: {order: sweep, steps: 2}
"""


def tiny() -> nn.Sequential:
    """Two convolutions and a head, for 10 classes."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 6 * 6, 10),
    )


def network(spec: str = SPEC, seed: int = 0) -> PCNetwork:
    return pcg.build(pcg.parse_spec(spec), trust=True, seed=seed)


def images(of: PCNetwork, count: int) -> ImageData:
    shape = of.graph.nodes[of.graph.receiver].shape
    data = open_data("digits", "train", shape=shape, preprocess=preprocess_for(of.spec.backbone))
    return subset(data, range(0, 4000, 4000 // count)[:count])


def settings(**fields: Any) -> Train:
    return Train.model_validate({"epochs": 2, "batch": 8, **fields})


def weights(of: PCNetwork) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in of.parameters()])
