"""Agreement with published packages: Predify (four networks) and PRECO (two), see goldens/README.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.datasets import Batch
from pcgraph.dynamics.tunable import TunablePredify
from pcgraph.importers.predify_spec import read_predify
from pcgraph.learning.feedback import Feedback
from pcgraph.network import PCNetwork
from pcgraph.training.gradients import clear, differentiate
from tests.goldens import nets

GOLDENS = Path(__file__).parent.parent / "goldens"
TOLERANCE = {"atol": 1e-5, "rtol": 0.0}
CASES = ["chain_mean", "chain_normalized", "chain_shared", "residual_normalized"]


class Wrapper(nn.Module):
    """Holds the chain as `features`, as the network did that made the goldens."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nets.chain()

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


@dataclass
class Golden:
    tensors: dict[str, Tensor]
    facts: dict
    network: PCNetwork

    @property
    def edges(self) -> list[str]:
        return [f"e{i + 1}->{f'e{i}' if i else 'input'}" for i in range(3)]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


@pytest.fixture(params=CASES)
def golden(request: pytest.FixtureRequest) -> Golden:
    name = request.param
    folder = GOLDENS / "predify"
    tensors = load_file(folder / f"{name}.safetensors")
    facts = json.loads((folder / f"{name}.json").read_text())
    model = nets.Residual() if name.startswith("residual") else Wrapper()
    spec = read_predify(folder / f"{name}.toml", model="python:tests:unused")
    if "sqrt_c" in facts:  # the published package estimates C through its predictors' ReLUs
        edges = [
            edge.model_copy(update={"reach": root**2})
            for edge, root in zip(spec.feedback, facts["sqrt_c"], strict=True)
        ]
        spec = spec.model_copy(update={"feedback": edges})
    backbone = {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
    model.load_state_dict(backbone)
    network = pcg.build(spec, model=model)
    golden = Golden(tensors, facts, network)
    for index, edge in enumerate(golden.edges):
        # each predictor has one weight and one bias, whatever they are nested in
        for name, parameter in network.predictors[edge].named_parameters():
            (key,) = [
                key
                for key in tensors
                if key.startswith(f"predictor.{index}.") and key.endswith(name.split(".")[-1])
            ]
            parameter.data.copy_(tensors[key])
    return golden


def test_every_step_agrees_with_predify(golden: Golden) -> None:
    run = pcg.Scheduler(golden.network).run(
        golden["input"], steps=6, record=["output", "values", "predictions", "errors", "energy", "gradients"]
    )
    for t in range(7):
        torch.testing.assert_close(run.output[t], golden[f"t{t}.output"], **TOLERANCE)
        for index, edge in enumerate(golden.edges):
            node = f"e{index + 1}"
            prediction = golden[f"t{t}.prediction.{index}"]
            torch.testing.assert_close(run.values[node][t], golden[f"t{t}.node.{index}"], **TOLERANCE)
            torch.testing.assert_close(run.predictions[edge][t], prediction, **TOLERANCE)
            mean_square = golden[f"t{t}.error.{index}"]
            torch.testing.assert_close(run.errors[edge][t].square().mean(), mean_square, **TOLERANCE)
            energy = run.energy[edge][t].sum() * 2 / prediction.numel()
            torch.testing.assert_close(energy, mean_square, **TOLERANCE)
            scale = golden.network.dynamics.gains(2).scale[edge]
            gradient = run.gradients[node][t] / scale * 2 / prediction.numel()
            torch.testing.assert_close(gradient, golden[f"t{t}.gradient.{index}"], **TOLERANCE)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_first_order_gradient_through_time(golden: Golden, checkpoint: bool) -> None:
    image = golden["input"].clone().requires_grad_()
    run = pcg.Scheduler(golden.network).run(
        image, steps=6, differentiable="first_order", checkpoint=checkpoint
    )
    loss = sum(F.cross_entropy(output, golden["labels"]) for output in run.output)
    (gradient,) = torch.autograd.grad(loss, image)
    torch.testing.assert_close(loss, golden["through_time.loss"].reshape(()), **TOLERANCE)
    torch.testing.assert_close(gradient, golden["through_time.input_grad"], **TOLERANCE)


def test_reconstruction_loss_and_gradients(golden: Golden) -> None:
    """As `pcgraph train` computes them."""
    task = Feedback(golden.network)
    (losses,) = task.moments(Batch(golden["input"], golden["labels"], torch.arange(2)))
    assert list(losses) == golden.edges
    clear(task.parameters())
    differentiate(losses, task.parameters())
    torch.testing.assert_close(sum(losses.values()), golden["reconstruction.loss"].reshape(()), **TOLERANCE)
    for index, edge in enumerate(golden.edges):
        names = [n for n in golden.tensors if n.startswith(f"reconstruction.grad.{index}.")]
        expected = {golden[name].shape: golden[name] for name in names}
        for parameter in golden.network.predictors[edge].parameters():
            torch.testing.assert_close(parameter.grad, expected[parameter.shape], **TOLERANCE)
    assert golden.network.drive is not None
    assert all(parameter.grad is None for parameter in golden.network.drive.parameters())


def test_gradients_of_the_raw_values_of_the_dynamics(golden: Golden) -> None:
    """The goldens' parameterisation: which raw values there are, the loss, and its gradients for them."""
    if not any(name.startswith("hyper.") for name in golden.tensors):
        pytest.skip("this case has no learnable values")
    dynamics = golden.network.dynamics = TunablePredify(golden.network.dynamics)
    names = {"feedforward": "ff_part", "feedback": "fb_part", "memory": "mem_part", "error": "errorm"}
    for name, published in names.items():
        expected = torch.stack([golden[f"hyper.value.{published}.{i}"].reshape(()) for i in range(3)])
        torch.testing.assert_close(dynamics.raw[name].detach(), expected, **TOLERANCE)
    run = pcg.Scheduler(golden.network).run(golden["input"], steps=6, differentiable="first_order")
    loss = sum(F.cross_entropy(output, golden["labels"]) for output in run.output)
    torch.testing.assert_close(loss, golden["hyper.loss"].reshape(()), **TOLERANCE)
    gradients = torch.autograd.grad(loss, [dynamics.raw[name] for name in names])
    for gradient, published in zip(gradients, names.values(), strict=True):
        expected = torch.stack([golden[f"hyper.grad.{published}.{i}"].reshape(()) for i in range(3)])
        torch.testing.assert_close(gradient, expected, **TOLERANCE)


def test_layered_energy_network_agrees_with_preco() -> None:
    golden = load_file(GOLDENS / "preco" / "pcn_discriminative.safetensors")
    facts = json.loads((GOLDENS / "preco" / "pcn_discriminative.json").read_text())
    sizes = facts["layers"]
    spec = pcg.parse_spec(
        {
            "name": "pcn",
            "nodes": {f"x{i}": {"shape": [size]} for i, size in enumerate(sizes)},
            "edges": [
                {"source": f"x{i}", "target": f"x{i + 1}", "predictor": ["Tanh", "Linear"]} for i in range(3)
            ],
            "dynamics": {"rule": "energy", "rate": facts["rate"]},
            "schedule": {"steps": facts["steps"]},
        }
    )
    network = pcg.build(spec)
    for i in range(3):
        linear = network.predictors[f"x{i}->x{i + 1}"][1]
        linear.load_state_dict({"weight": golden[f"w{i}"].T, "bias": golden[f"b{i}"]})
    scheduler = pcg.Scheduler(network)
    network.predictors.requires_grad_(True)
    run = scheduler.run(golden["x0"], clamp={"x3": golden["x3"]}, record=["values", "errors"])
    for i in range(4):
        torch.testing.assert_close(run.values[f"x{i}"][-1], golden[f"x{i}"], **TOLERANCE)
    for i in range(3):
        torch.testing.assert_close(run.errors[f"x{i}->x{i + 1}"][-1], golden[f"e{i + 1}"], **TOLERANCE)
    start = scheduler.start(golden["x0"])
    torch.testing.assert_close(start.values["x3"], golden["prediction"], **TOLERANCE)


def test_arbitrary_energy_graph_agrees_with_preco(tmp_path: Path) -> None:
    """Blocks of units that all predict each other and themselves, summed in one bundle a block."""
    golden = load_file(GOLDENS / "preco" / "pcg_arbitrary.safetensors")
    facts = json.loads((GOLDENS / "preco" / "pcg_arbitrary.json").read_text())
    names = ["input_units", "hidden", "output_units"]
    parts = dict(zip(names, torch.arange(26).split(facts["shape"]), strict=True))
    for t in names:
        for s in names:
            part = golden["mask"][parts[t]][:, parts[s]].contiguous()
            save_file({"mask": part}, tmp_path / f"{s}_{t}.safetensors")
    spec = pcg.parse_spec(
        {
            "name": "pcg",
            "nodes": {name: {"shape": [len(part)]} for name, part in parts.items()},
            "edges": [
                {
                    "source": s,
                    "target": t,
                    "predictor": ["Tanh", "Linear"],
                    "bundle": f"into_{t}",
                    "mask": f"{s}_{t}.safetensors",
                }
                for t in names
                for s in names
            ],
            "dynamics": {"rule": "energy", "rate": facts["rate"]},
        },
        tmp_path,
    )
    network = pcg.build(spec)
    for t in names:
        for s in names:
            bias = golden["b"][parts[t]] if s == t else torch.zeros(len(parts[t]))
            weight = golden["w"][parts[t]][:, parts[s]]
            network.predictors[f"{s}->{t}"][1].load_state_dict({"weight": weight, "bias": bias})
    start = {name: golden["x_start"][:, part] for name, part in parts.items()}
    run = pcg.Scheduler(network).run(
        clamp=start, free=["hidden"], steps=facts["steps"], record=["values", "errors", "energy"]
    )
    for name, part in parts.items():
        torch.testing.assert_close(run.values[name][-1], golden["x_end"][:, part], **TOLERANCE)
        torch.testing.assert_close(run.errors[f"into_{name}"][-2], golden["e_last"][:, part], **TOLERANCE)
    energy = 2 * sum(run.energy[f"into_{name}"][-2].sum() for name in names)
    torch.testing.assert_close(energy, golden["energy"].reshape(()), **TOLERANCE)
