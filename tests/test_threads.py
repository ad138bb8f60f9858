"""Networks that several threads build at once have the weights of their seeds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import pcgraph as pcg

SPEC: dict[str, Any] = {
    "name": "threads",
    "nodes": {f"n{i}": {"shape": [32]} for i in range(40)},
    "edges": [{"source": f"n{i}", "target": f"n{i + 1}", "predictor": ["Linear"]} for i in range(39)],
    "dynamics": {"rule": "energy"},
}


def numbers(network: pcg.PCNetwork) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in network.state_dict().values()]


@pytest.mark.parametrize("seeds", [[0, 1, 2, 3], [7, 7, 7, 7], [3, 2, 1, 0, 3, 2, 1, 0]])
def test_threads(seeds: list[int]) -> None:
    alone = {seed: numbers(pcg.build(SPEC, seed=seed)) for seed in seeds}
    before = torch.random.get_rng_state()
    for _ in range(3):
        with ThreadPoolExecutor(len(seeds)) as threads:
            built = list(threads.map(lambda seed: numbers(pcg.build(SPEC, seed=seed)), seeds))
        for seed, weights in zip(seeds, built, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(weights, alone[seed], strict=True))
    assert torch.equal(before, torch.random.get_rng_state())
