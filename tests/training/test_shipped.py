"""`pcgraph train` takes every shipped network without a backbone."""

from __future__ import annotations

import pytest
import torch

import pcgraph as pcg
from pcgraph.datasets import batches
from pcgraph.files.shipped import shipped_spec, shipped_specs
from pcgraph.learning.tasks import make_task
from pcgraph.spec import Train, load_spec

from .nets import images

FREE = [name for name in shipped_specs() if load_spec(shipped_spec(name)).backbone is None]


@pytest.mark.parametrize("name", FREE)
def test_shipped_free_networks_learn(name: str) -> None:
    network = pcg.build(shipped_spec(name))
    of = make_task(network, network.spec.train or Train())
    batch = next(batches(images(network, 4), 4))
    *_, energy = of.moments(batch)
    assert set(energy) == set(network.graph.terms)
    assert all(torch.isfinite(one) for one in energy.values())
    gradients = torch.autograd.grad(torch.stack(list(energy.values())).sum(), of.parameters())
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert all(torch.isfinite(torch.as_tensor(value)) for value in of.measure(batch).values())
