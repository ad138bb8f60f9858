"""Energies against autograd of the formulas as they are written in textbooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal

import pcgraph as pcg
from pcgraph.dynamics.energies import TermEnergy

KINDS = ["gaussian", "categorical", "bernoulli"]


def written_down(kind: str, x: Tensor, mu: Tensor, precision: Tensor | float = 1.0) -> Tensor:
    """The energy of each image, summed over the units."""
    if kind == "gaussian":
        return (precision * (x - mu) ** 2 / 2).flatten(1).sum(1)
    if kind == "categorical":
        return precision * -(x * torch.log(mu.exp() / mu.exp().sum(1, keepdim=True))).flatten(1).sum(1)
    p = 1 / (1 + torch.exp(-mu))
    return precision * -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    x, mu = torch.rand(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    return x.requires_grad_(), mu.requires_grad_()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 3, 3)])
@pytest.mark.parametrize("precision", [1.0, 2.5])
def test_value_error_and_force_are_of_one_energy(kind: Any, shape: tuple[int, ...], precision: float) -> None:
    x, mu = pair(*shape)
    energy = TermEnergy(kind, precision, shape[1:])
    expected = written_down(kind, x, mu, precision)
    by_x, by_mu = torch.autograd.grad(expected.sum(), [x, mu])
    torch.testing.assert_close(energy(x, mu), expected)
    torch.testing.assert_close(energy.weighted(energy.error(x, mu)), -by_mu)
    torch.testing.assert_close(energy.force(x, mu), by_x)


def test_the_error_vanishes_where_the_state_is_as_expected() -> None:
    _, mu = pair(3, 5)
    for kind in KINDS:
        energy = TermEnergy(kind, 1.0, (5,))  # type: ignore[arg-type]
        assert energy.error(energy.mean(mu), mu).abs().max() < 1e-15


def test_energies_are_minus_log_densities() -> None:
    label, mu = torch.tensor([2, 0, 4]), torch.randn(3, 5, dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(label, 5).double()
    expected = -Categorical(logits=mu).log_prob(label)
    torch.testing.assert_close(TermEnergy("categorical", 1.0, (5,))(one_hot, mu), expected)
    expected = -Bernoulli(logits=mu).log_prob(one_hot).sum(1)
    torch.testing.assert_close(TermEnergy("bernoulli", 1.0, (5,))(one_hot, mu), expected)


def test_precision_by_unit_and_learned() -> None:
    x, mu = pair(2, 3, 4, 4)
    by_channel = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    energy = TermEnergy("gaussian", (0.5, 1.0, 3.0), (3, 4, 4)).double()
    torch.testing.assert_close(energy(x, mu), written_down("gaussian", x, mu, by_channel.view(3, 1, 1)))
    learned = TermEnergy("gaussian", "learned", (3, 4, 4)).double()
    torch.nn.init.normal_(learned.log_precision)
    normal = Normal(mu, learned.log_precision.exp() ** -0.5)
    constant = 48 * torch.log(torch.tensor(2 * torch.pi)).double() / 2  # of the normal density
    torch.testing.assert_close(learned(x, mu), -normal.log_prob(x).flatten(1).sum(1) - constant)


SPEC = """
name: three
nodes: {image: {shape: [6]}, hidden: {shape: [5]}, pixels: {shape: [4]}, label: {shape: [3]}}
edges:
  - {source: image, target: hidden, predictor: [Linear, Tanh], precision: [1, 2, 0.5, 3, 1]}
  - {source: hidden, target: pixels, predictor: [Tanh, Linear], energy: bernoulli, precision: 0.7}
  - {source: hidden, target: label, predictor: [Linear], energy: categorical, bundle: l}
  - {source: pixels, target: label, predictor: [Linear], energy: categorical, bundle: l}
  - {source: label, target: hidden, predictor: [Linear], precision: learned}
dynamics: {rule: energy, rate: 0.1}
"""


def total(network: pcg.PCNetwork, x: dict[str, Tensor]) -> Tensor:
    f = network.predictors
    learned = network.energies["label->hidden"].log_precision
    assert isinstance(learned, Tensor)
    by_unit = torch.tensor([1, 2, 0.5, 3, 1], dtype=torch.float64)
    logits = f["hidden->label"](x["hidden"]) + f["pixels->label"](x["pixels"])
    energy = written_down("gaussian", x["hidden"], f["image->hidden"](x["image"]), by_unit)
    energy = energy + written_down("bernoulli", x["pixels"], f["hidden->pixels"](x["hidden"]), 0.7)
    energy = energy + written_down("categorical", x["label"], logits)
    energy = energy + written_down("gaussian", x["hidden"], f["label->hidden"](x["label"]), learned.exp())
    return energy - learned.sum() / 2


def test_a_step_descends_the_energy() -> None:
    network = pcg.build(pcg.parse_spec(SPEC)).double()
    torch.nn.init.normal_(network.energies["label->hidden"].log_precision)
    scheduler = pcg.Scheduler(network)
    image, label = torch.randn(2, 6), torch.rand(2, 3)
    state = scheduler.start(
        image, clamp={"label": label, "pixels": torch.rand(2, 4)}, free=["label", "pixels"]
    )
    run = scheduler.run(
        image, 3, clamp={"label": state.values["label"], "pixels": state.values["pixels"]},
        free=["label", "pixels"], record=["values", "energy", "errors"],
    )  # fmt: skip
    for t in range(3):
        now = {name: series[t].clone().requires_grad_() for name, series in run.values.items()}
        energy = total(network, now)
        torch.testing.assert_close(sum(series[t] for series in run.energy.values()), energy)
        moving = ["hidden", "pixels", "label"]
        for name, slope in zip(
            moving, torch.autograd.grad(energy.sum(), [now[n] for n in moving]), strict=True
        ):
            torch.testing.assert_close(run.values[name][t + 1], now[name] - 0.1 * slope)


def test_a_free_node_starts_at_what_its_prediction_expects() -> None:
    network = pcg.build(pcg.parse_spec(SPEC.replace("  - {source: label, target: hidden, predictor: [Linear], precision: learned}\n", "")))  # fmt: skip # noqa: E501
    state = pcg.Scheduler(network).start(torch.randn(2, 6))
    torch.testing.assert_close(state.values["label"].sum(1), torch.ones(2))
    logits = network.predictors["hidden->pixels"](state.values["hidden"])
    torch.testing.assert_close(state.values["pixels"], logits.sigmoid())


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ("precision: [1, 2]", "2 precisions for a first dimension of 3"),
        ("precision: much", "expected a number, a list of numbers or 'learned', got 'much'"),
        ("precision: learnt", "Did you mean 'learned'?"),
        ("energy: categorical, precision: learned", "the precision of energy 'categorical' is one number"),
        ("precision: [1, 2, 0]", "precision[2]: expected more than 0, got 0"),
        ("energy: poisson", "energy"),
    ],
)
def test_what_does_not_fit_is_refused(edge: str, message: str) -> None:
    text = "name: n\nnodes: {a: {shape: [3]}, b: {shape: [3]}}\n"
    text += f"edges: [{{source: a, target: b, {edge}}}]\ndynamics: {{rule: energy}}\n"
    with pytest.raises(pcg.SpecError) as caught:
        pcg.parse_spec(text)
    assert message in str(caught.value)


def test_energies_belong_to_the_energy_rule_and_bundles_agree() -> None:
    text = "name: n\nnodes: {a: {shape: [3]}, b: {shape: [3]}}\n"
    with pytest.raises(pcg.SpecError, match="'energy' belongs to rule 'energy'"):
        pcg.parse_spec(text + "edges: [{source: a, target: b, energy: bernoulli}]")
    edges = "{source: a, target: b, bundle: x, energy: bernoulli}, {source: b, target: b, bundle: x}"
    with pytest.raises(pcg.SpecError, match="have energies bernoulli and gaussian"):
        pcg.parse_spec(text + f"edges: [{edges}]\ndynamics: {{rule: energy}}")


def test_learned_precisions_are_saved_with_the_weights(tmp_path: Path) -> None:
    network = pcg.build(pcg.parse_spec(SPEC))
    torch.nn.init.normal_(network.energies["label->hidden"].log_precision)
    network.save_weights(tmp_path / "w.safetensors")
    other = pcg.build(pcg.parse_spec(SPEC), seed=5)
    other.load_weights(tmp_path / "w.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert "energies.label->hidden.log_precision" in other.state_dict()


def test_precisions_that_do_not_fit_a_place_in_the_backbone_are_refused() -> None:
    node = {"module": "0", "precision": [1.0, 2.0]}
    spec = pcg.parse_spec(
        {
            "name": "traced",
            "backbone": {"input": [3, 8, 8]},
            "nodes": {"e1": node},
            "feedback": "none",
            "dynamics": {"rule": "energy"},
        }
    )
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    with pytest.raises(
        pcg.SpecError, match=r"nodes.e1.precision: 2 precisions for 'e1' of shape \(4, 6, 6\)"
    ):
        pcg.build(spec, model=model)
