"""Lesions against networks without the edge, and gradients of gains against differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import pcgraph as pcg
from pcgraph.analysis.edges import gain_gradients, lesion_effects
from pcgraph.analysis.inputs import Inputs
from pcgraph.analysis.lesion import lesioned
from pcgraph.errors import InputError

GAINS = {"feedforward": 0.5, "feedback": 0.2, "error": 0.02, "gradient": "sum"}


def digits(feedback: Any, **dynamics: Any) -> pcg.PCNetwork:
    spec = {
        "extends": "digits",
        "name": "d",
        "feedback": feedback,
        "weights": None,
        "dynamics": {**GAINS, **dynamics, "share": {"feedback": "edge", "error": "edge"}},
        "schedule": {"order": "synchronous"},
    }
    values = pcg.load_spec("digits").dump()
    values.update({key: one for key, one in spec.items() if key != "extends"})
    values.pop("weights")
    return pcg.build(pcg.parse_spec(values)).double()


def images(count: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 1, 28, 28, dtype=torch.float64), torch.arange(count) % 10


@pytest.mark.heavy
def test_a_lesion_is_the_network_without_the_edge() -> None:
    """With gains that no edge shares: the same as building the wiring that lacks it."""
    network, (x, labels) = digits("dense"), images()
    pairs = [
        (edge.sources[0], edge.target) for edge in network.graph.edges.values() if edge.kind == "feedback"
    ]
    for gone in ("e2->e1", "e3->input", "e3->e2"):
        kept = [{"source": s, "target": t} for s, t in pairs if f"{s}->{t}" != gone]
        other = digits(kept)
        own = dict(network.predictors.named_parameters())
        with torch.no_grad():
            for name, parameter in other.predictors.named_parameters():
                parameter.copy_(own[name])
        expected = pcg.Scheduler(other).run(x, 3).output[-1]
        found = pcg.Scheduler(lesioned(network, gone)).run(x, 3).output[-1]
        torch.testing.assert_close(found, expected)
        whole = pcg.Scheduler(network).run(x, 3).output[-1]
        effect = next(one for one in lesion_effects(network, Inputs(x, labels, 3)) if one.term == gone)
        rise = F.cross_entropy(expected, labels) - F.cross_entropy(whole, labels)
        assert effect.loss == pytest.approx(float(rise), abs=1e-12)
        right = (whole.argmax(1) == labels).double().mean() - (expected.argmax(1) == labels).double().mean()
        assert effect.accuracy == pytest.approx(float(right))
        assert effect.changed == float((whole.argmax(1) != expected.argmax(1)).double().mean())


def test_the_network_is_as_it_was() -> None:
    network, (x, _) = digits("chain"), images(2)
    before, rule = pcg.Scheduler(network).run(x, 2).output[-1], network.dynamics
    list(lesion_effects(network, Inputs(x, None, 2)))
    gain_gradients(network, Inputs(x, None, 2))
    assert network.dynamics is rule
    assert torch.equal(pcg.Scheduler(network).run(x, 2).output[-1], before)


@pytest.mark.heavy
def test_gradients_of_gains_are_differences() -> None:
    """A gain of an edge is set in the spec, a little more and a little less."""
    x, labels = images(3)
    edges = [{"source": "e2", "target": "e1", "gain": 0.2, "error": 0.03}, {"source": "e3", "target": "e2"}]

    def loss(**changed: float) -> float:
        network = digits([{**edges[0], **changed}, edges[1]])
        return float(F.cross_entropy(pcg.Scheduler(network).run(x, 4).output[-1], labels))

    found = {(one.edge, one.source): one for one in gain_gradients(digits(edges), Inputs(x, labels, 4))}
    assert set(found) == {("e2->e1", ""), ("e2->e1", "e2"), ("e3->e2", ""), ("e3->e2", "e3")}
    h = 1e-6
    for field, key, gain in (("gain", ("e2->e1", ""), 0.2), ("error", ("e2->e1", "e2"), 0.03)):
        slope = (loss(**{field: gain + h}) - loss(**{field: gain - h})) / (2 * h)
        assert found[key].gain == pytest.approx(gain)
        assert found[key].gradient == pytest.approx(slope, rel=1e-4, abs=1e-9)


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("optimizer", ["gradient", "momentum"])
def test_without_a_backbone_the_loss_is_the_energy(optimizer: str) -> None:
    spec = {
        "name": "mlp",
        "nodes": {"a": {"shape": [4]}, "b": {"shape": [3]}, "c": {"shape": [2]}},
        "edges": [
            {"source": "a", "target": "b", "predictor": ["Linear", "Tanh"]},
            {"source": "b", "target": "c", "predictor": ["Linear"], "delay": 2},
        ],
        "feedback": [{"source": "c", "target": "b", "predictor": ["Linear"]}],
        "dynamics": {"rule": "energy", "rate": 0.2, "optimizer": optimizer},
        "schedule": {"initial": "zeros"},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    inputs = Inputs(x, None, 6)
    effects = {one.term: one for one in lesion_effects(network, inputs)}
    assert set(effects) == {"a->b", "b->c", "c->b"}
    whole = pcg.Scheduler(network).run(x, 6, record=["energy"])
    total = sum(float(series[-1].mean()) for series in whole.energy.values())
    for term, effect in effects.items():
        run = pcg.Scheduler(lesioned(network, term)).run(x, 6, record=["energy"])
        after = sum(float(series[-1].mean()) for series in run.energy.values())
        assert effect.loss == pytest.approx(after - total)
        assert effect.changed != effect.changed
    gradients = {(one.edge, one.source): one.gradient for one in gain_gradients(network, inputs)}
    assert len(gradients) == 5  # three draw their targets, two move a source that is not clamped
    assert all(abs(one) > 1e-9 for key, one in gradients.items())


def test_refusals() -> None:
    network, (x, labels) = digits("chain"), images(2)
    with pytest.raises(InputError, match="class 12 of 10"):
        list(lesion_effects(network, Inputs(x, labels + 11, 1)))
