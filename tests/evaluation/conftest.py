"""A small network with feedback, and random pictures for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcgraph as pcg
from pcgraph.datasets import ImageData
from pcgraph.datasets.sources import Arrays
from pcgraph.spec import Preprocess
from tests.goldens.nets import chain

SPEC = """
name: small
backbone: {input: [3, 16, 16]}
nodes: {e1: "1", e2: "3", e3: "5"}
feedback: chain
dynamics: {rule: predify, feedforward: 0.5, feedback: 0.3, error: 0.05, gradient: normalized}
schedule: {order: sweep, steps: 3}
"""
PREPROCESS = Preprocess(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


@pytest.fixture
def network() -> pcg.PCNetwork:
    torch.manual_seed(1)
    return pcg.build(pcg.parse_spec(SPEC), model=chain())


def pictures(count: int, size: int = 16, labelled: bool = True) -> ImageData:
    generator = np.random.default_rng(3)
    values = generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, count).tolist() if labelled else [-1] * count
    classes = [str(number) for number in range(10)] if labelled else None
    return ImageData(Arrays("random", values, labels, classes), (3, size, size), PREPROCESS)
