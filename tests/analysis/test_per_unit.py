"""Energies and errors per unit, and the memory of a step, against sums by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import pcgraph as pcg
from pcgraph.analysis.cost import step_memory
from pcgraph.analysis.per_unit import RECORDED, per_unit
from pcgraph.simulation.memory import MemoryMeter


def chain(wide: int, rule: str = "predify") -> dict[str, Any]:
    return {
        "name": "wide",
        "nodes": {"a": {"shape": [4]}, "b": {"shape": [wide]}},
        "edges": [{"source": "a", "target": "b", "predictor": ["Linear"]}],
        "feedback": [{"source": "b", "target": "a", "predictor": ["Linear"]}],
        "dynamics": {"rule": rule},
    }


@pytest.mark.parametrize("wide", [3, 17])
def test_per_unit_of_the_target_over_all_images(wide: int) -> None:
    network = pcg.build(pcg.parse_spec(chain(wide))).double()
    images = torch.randn(5, 4, dtype=torch.float64)
    run = pcg.Scheduler(network).run(images, 3, record=list(RECORDED))
    found = {(one.term, one.step): one for one in per_unit(run, network.graph)}
    assert len(found) == 2 * 4
    for step in range(4):
        errors = {"a->b": run.errors["a->b"][step], "b->a": run.errors["b->a"][step]}
        for term, error in errors.items():
            one, units = found[term, step], 5 * (wide if term == "a->b" else 4)
            target = run.values[term[-1]][step]
            assert one.error == pytest.approx((float((error**2).sum()) / units) ** 0.5)
            assert one.energy == pytest.approx(float((error**2).sum()) / 2 / units)
            assert one.state == pytest.approx((float((target**2).sum()) / units) ** 0.5)
            assert one.share == pytest.approx(float(error.norm() / target.norm()))


def test_a_state_of_zeros_has_no_share() -> None:
    network = pcg.build(pcg.parse_spec(chain(3)))
    run = pcg.Scheduler(network).run(torch.zeros(1, 4), 0, record=list(RECORDED))
    one = next(one for one in per_unit(run, network.graph) if one.term == "b->a")
    assert math.isnan(one.share)


def test_memory_grows_with_the_states() -> None:
    """A step holds the next states, predictions and errors: some tensors of 4 and of 1,000 floats."""
    small, large = (step_memory(pcg.build(pcg.parse_spec(chain(wide)))) for wide in (10, 1000))
    assert small is not None
    assert large is not None
    assert 2 * 4 * 1000 <= large <= 12 * 4 * 1004
    assert small <= large / 50


def test_it_is_what_a_real_step_takes() -> None:
    """Counted on tensors that have numbers."""
    found = []
    for feedback in ("none", "dense"):
        spec = {"extends": "digits", "name": "d", "feedback": feedback, "weights": None}
        network = pcg.build(pcg.parse_spec(spec))
        scheduler = pcg.Scheduler(network)
        state = scheduler.start(torch.randn(1, 1, 28, 28))
        with MemoryMeter() as meter:
            scheduler.step(state)
        found.append(meter.peak)
        assert step_memory(network) == meter.peak
    assert found[0] < found[1]
