"""Learning rules against published numbers, against backpropagation by hand, and against each other."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.learning import batches, learn, weight_gradients
from pcgraph.learning.local import Local

PRECO = Path(__file__).parent.parent / "goldens" / "preco"
CLOSE = {"atol": 1e-5, "rtol": 0.0}


def chain(sizes: list[int], layers: list[Any], **last: Any) -> dict[str, Any]:
    edges: list[dict[str, Any]] = [
        {"source": f"x{i}", "target": f"x{i + 1}", "predictor": layers} for i in range(len(sizes) - 1)
    ]
    edges[-1] |= last
    nodes = {f"x{i}": {"shape": [size]} for i, size in enumerate(sizes)}
    return {"name": "chain", "nodes": nodes, "edges": edges, "dynamics": {"rule": "energy", "rate": 0.5}}


# ---- goldens ------------------------------------------------------------------------------------


def test_weight_gradients_of_a_layered_network_agree_with_preco() -> None:
    golden = load_file(PRECO / "pcn_discriminative.safetensors")
    facts = json.loads((PRECO / "pcn_discriminative.json").read_text())
    spec = chain(facts["layers"], ["Tanh", "Linear"])
    spec["dynamics"]["rate"] = facts["rate"]
    network = pcg.build(pcg.parse_spec(spec))
    for i in range(3):
        linear = network.predictors[f"x{i}->x{i + 1}"][1]
        linear.load_state_dict({"weight": golden[f"w{i}"].T, "bias": golden[f"b{i}"]})
    clamp = {"x0": golden["x0"], "x3": golden["x3"]}
    found = weight_gradients(network, clamp, rule="il", steps=facts["steps"])
    for i in range(3):
        key = f"predictors.x{i}->x{i + 1}.1"  # the golden sums over the batch
        torch.testing.assert_close(found[f"{key}.weight"].T * len(golden["x0"]), golden[f"dw{i}"], **CLOSE)
        torch.testing.assert_close(found[f"{key}.bias"] * len(golden["x0"]), golden[f"db{i}"], **CLOSE)


def test_weight_gradients_of_an_arbitrary_graph_agree_with_preco(tmp_path: Path) -> None:
    golden = load_file(PRECO / "pcg_arbitrary.safetensors")
    facts = json.loads((PRECO / "pcg_arbitrary.json").read_text())
    names = ["input_units", "hidden", "output_units"]
    parts = dict(zip(names, torch.arange(26).split(facts["shape"]), strict=True))
    for t in names:
        for s in names:
            part = golden["mask"][parts[t]][:, parts[s]].contiguous()
            save_file({"mask": part}, tmp_path / f"{s}_{t}.safetensors")
    spec = {
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
    }
    network = pcg.build(pcg.parse_spec(spec, tmp_path))
    for t in names:
        for s in names:
            bias = golden["b"][parts[t]] if s == t else torch.zeros(len(parts[t]))
            weight = golden["w"][parts[t]][:, parts[s]]
            network.predictors[f"{s}->{t}"][1].load_state_dict({"weight": weight, "bias": bias})
    start = {name: golden["x_start"][:, part] for name, part in parts.items()}
    scheduler = pcg.Scheduler(network)
    run = scheduler.run(clamp=start, free=["hidden"], steps=facts["steps"], record=["values"])
    # PRECO takes the gradient with the last states and the errors of one step before them.
    errors = scheduler.run(clamp=start, free=["hidden"], steps=facts["steps"] - 1, record=["errors"]).errors
    before = {name: errors[f"into_{name}"][-1] for name in names}
    local = Local(network)
    mu = local.predict(run.state).mu
    targets = {name: mu[f"into_{name}"].detach() + before[name] for name in names}
    energy = sum(local.energies(mu, targets).values())
    gradients = torch.autograd.grad(energy, list(network.parameters()))
    found = dict(zip([name for name, _ in network.named_parameters()], gradients, strict=True))
    batch = len(golden["x_start"])
    for t in names:
        for s in names:
            key = f"predictors.{s}->{t}.1"
            mask = golden["mask"][parts[t]][:, parts[s]]
            expected = golden["dw"][parts[t]][:, parts[s]] * mask
            torch.testing.assert_close(found[f"{key}.weight"] * batch, expected, **CLOSE)
        torch.testing.assert_close(
            found[f"predictors.{t}->{t}.1.bias"] * batch, golden["db"][parts[t]], **CLOSE
        )


# ---- backpropagation ----------------------------------------------------------------------------


def relative(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    assert expected
    return max(
        float(torch.linalg.vector_norm(found[name] - one) / torch.linalg.vector_norm(one))
        for name, one in expected.items()
    )


def plain_gradients(network: pcg.PCNetwork, loss: Tensor) -> dict[str, Tensor]:
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(learning.values()))
    return dict(zip(learning, found, strict=True))


@pytest.mark.parametrize("rule", ["bp", "fpa", "zil"])
@pytest.mark.parametrize("energy", ["gaussian", "categorical", "bernoulli"])
@pytest.mark.parametrize("precision", [1.0, 0.5])
def test_mlp_learns_as_by_backpropagation(rule: Any, energy: str, precision: float) -> None:
    spec = chain([7, 9, 8, 6, 4], ["Tanh", {"Linear": {"out_features": 8}}, "Tanh", "Linear"], energy=energy)
    spec["edges"][1]["precision"] = precision
    network = pcg.build(pcg.parse_spec(spec)).double()
    x, y = torch.randn(5, 7).double(), torch.rand(5, 4).double().softmax(1)
    mu = x
    for i in range(4):
        mu = network.predictors[f"x{i}->x{i + 1}"](mu)
    loss = {
        "gaussian": (mu - y).square().sum(1).mean() / 2,
        "categorical": F.cross_entropy(mu, y),
        "bernoulli": F.binary_cross_entropy_with_logits(mu, y, reduction="none").sum(1).mean(),
    }[energy]
    found = weight_gradients(network, {"x0": x, "x4": y}, rule=rule, steps=120)
    assert relative(found, plain_gradients(network, loss)) < 1e-6


CNN = """
name: cnn
nodes:
  image: {shape: [2, 8, 8]}
  map1: {shape: [4, 8, 8]}
  map2: {shape: [6, 4, 4]}
  skip: {shape: [6, 4, 4]}
  features: {shape: [12]}
  label: {shape: [5]}
edges:
  - {source: image, target: map1, predictor: [{Conv2d: {kernel_size: 3, padding: 1}}, Tanh]}
  - {source: map1, target: map2, predictor: [{Conv2d: {kernel_size: 2, stride: 2}}, ReLU]}
  - {source: map1, target: skip, predictor: [{Conv2d: {kernel_size: 4, stride: 2, padding: 1}}, Tanh]}
  - {source: [map2, skip], target: features, predictor: [Flatten, Linear, Tanh]}
  - {source: features, target: label, predictor: [Linear], energy: categorical, bundle: label}
  - {source: skip, target: label, predictor: [Flatten, Linear], energy: categorical, bundle: label}
dynamics: {rule: energy, rate: 0.5}
"""


@pytest.mark.parametrize("rule", ["bp", "fpa", "zil"])
def test_cnn_with_skips_learns_as_by_backpropagation(rule: Any) -> None:
    network = pcg.build(pcg.parse_spec(CNN)).double()
    f = network.predictors
    image, label = torch.randn(3, 2, 8, 8).double(), torch.tensor([0, 3, 1])
    map1 = f["image->map1"](image)
    map2, skip = f["map1->map2"](map1), f["map1->skip"](map1)
    logits = f["features->label"](f["map2+skip->features"](map2, skip)) + f["skip->label"](skip)
    expected = plain_gradients(network, F.cross_entropy(logits, label))
    one_hot = F.one_hot(label, 5).double()
    found = weight_gradients(network, {"image": image, "label": one_hot}, rule=rule, steps=100)
    assert relative(found, expected) < 1e-6


def resnet() -> tuple[nn.Module, pcg.PCNetwork]:
    model = torchvision.models.resnet18(num_classes=5).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics as after some training
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    spec = {
        "name": "traced",
        "backbone": {"input": [3, 32, 32]},
        "nodes": {
            "stem": "maxpool",
            "a": "layer1.0.conv1",
            "b": "layer1",
            "c": "layer2.0.bn2",
            "d": "layer2.1.relu_1",
            "e": "layer3.0.relu",
            "f": "layer4.1.conv2",
            "label": {"module": "fc", "energy": "categorical"},
        },
        "feedback": "none",
        "dynamics": {"rule": "energy", "rate": 0.5},
    }
    network = pcg.build(pcg.parse_spec(spec), model=model).double()
    return model, network


@pytest.mark.parametrize("rule", ["bp", "zil", pytest.param("fpa", marks=pytest.mark.heavy)])
def test_traced_resnet_learns_as_by_backpropagation(rule: Any) -> None:
    model, network = resnet()
    assert not any(p.requires_grad for p in network.drive.parameters())
    network.drive.requires_grad_(True)
    images, label = torch.randn(2, 3, 32, 32).double(), torch.tensor([4, 1])
    model.requires_grad_(True)
    loss = F.cross_entropy(model(images), label)
    names = [f"drive.model.{name}" for name, _ in model.named_parameters()]
    expected = dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    clamp = {"input": images, "label": F.one_hot(label, 5).double()}
    found = weight_gradients(network, clamp, rule=rule, steps=60)
    assert relative(found, expected) < 1e-6


def strict_against_backpropagation(precision: float, size: float) -> float:
    """Relative distance of settled inference learning's gradient from backpropagation's."""
    spec = chain([7, 9, 8, 4], ["Tanh", "Linear"], precision=precision)
    network = pcg.build(pcg.parse_spec(spec)).double()
    generator = torch.Generator().manual_seed(3)
    x, direction = (torch.randn(5, n, generator=generator, dtype=torch.float64) for n in (7, 4))
    plain = pcg.Scheduler(network).start(x).values["x3"]
    clamp = {"x0": x, "x3": plain + size * direction}
    strict = weight_gradients(network, clamp, rule="il", steps=300)
    return relative(strict, weight_gradients(network, clamp, rule="bp"))


def test_strict_inference_learning_approaches_backpropagation() -> None:
    """As the output's error loses weight against the hidden ones (Whittington and Bogacz 2017, sec. 3).

    The size of the output's error alone does not do it: to first order all errors scale with it, and a
    relative distance, of Gauss and Newton's kind, stays.
    """
    distances = [strict_against_backpropagation(precision, 1.0) for precision in (1.0, 0.1, 0.01, 0.001)]
    for before, after in itertools.pairwise(distances):
        assert 5 < before / after < 20 or before > 0.3  # in proportion to the precision, once that is small
    assert distances[-1] < 5e-3
    large, small, smaller = (strict_against_backpropagation(1.0, size) for size in (1.0, 1e-3, 1e-4))
    assert small < large
    assert abs(small - smaller) < 1e-3 * small


# ---- locality -----------------------------------------------------------------------------------

LOOP = """
name: loop
nodes: {image: {shape: [6]}, a: {shape: [5]}, b: {shape: [4]}, label: {shape: [3]}}
edges:
  - {source: image, target: a, predictor: [Linear, Tanh]}
  - {source: a, target: b, predictor: [Linear, Tanh], bundle: b}
  - {source: b, target: b, predictor: [Tanh, Linear], bundle: b}
  - {source: b, target: label, predictor: [Linear], energy: categorical}
feedback:
  - {source: b, target: a, predictor: [Linear], precision: learned}
  - {source: label, target: b, predictor: [Linear]}
  - {source: a, target: image, predictor: [Linear]}
dynamics: {rule: energy, rate: 0.1}
"""


def test_each_update_needs_its_own_edge_alone() -> None:
    """Cut all else from the graph, keep the states at the edge: the update is the same."""
    network = pcg.build(pcg.parse_spec(LOOP)).double()
    clamp = {"image": torch.randn(4, 6).double(), "label": torch.eye(3)[[0, 2, 1, 1]].double()}
    found = weight_gradients(network, clamp, steps=12)
    values = pcg.Scheduler(network).run(clamp=clamp, steps=12).state.values
    written = {f"{e.source}->{e.target}": e for e in (*network.spec.edges, *network.spec.feedback)}
    for term, members in network.graph.terms.items():
        names = {members[0].target, *(source for edge in members for source in edge.sources)}
        kind = "edges" if members[0].kind == "feedforward" else "feedback"
        spec = {
            "name": "cut",
            "nodes": {name: {"shape": list(network.graph.nodes[name].shape)} for name in names},
            kind: [written[edge.name].model_dump() for edge in members],
            "dynamics": {"rule": "energy"},
        }
        alone = pcg.build(pcg.parse_spec(spec)).double()
        for edge in members:
            alone.predictors[edge.name].load_state_dict(network.predictors[edge.name].state_dict())
        update = weight_gradients(alone, {name: values[name] for name in names}, steps=1)
        assert update, term
        for name, gradient in update.items():
            torch.testing.assert_close(gradient, found[name], atol=1e-12, rtol=1e-12)
            assert gradient.abs().max() > 0


# ---- the loop -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["il", "ipc", "fpa", "zil", "bp"])
def test_every_rule_learns(rule: Any) -> None:
    spec = chain([4, 16, 2], ["Tanh", "Linear"], energy="categorical")
    spec["schedule"] = {"steps": 8}
    network = pcg.build(pcg.parse_spec(spec))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 4, generator=generator)
    y = F.one_hot((x[:, 0] * x[:, 1] > 0).long(), 2).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        for update in learn(network, batches({"x0": x, "x2": y}, 32, generator), optimizer, rule=rule):
            assert update.total >= 0
    predicted = pcg.Scheduler(network).start(x).values["x2"].argmax(1)
    assert (predicted == y.argmax(1)).float().mean() > 0.9


def test_ipc_moves_the_weights_at_every_step() -> None:
    network = pcg.build(pcg.parse_spec(chain([4, 5, 3], ["Linear", "Tanh"]))).double()
    by_hand = copy.deepcopy(network)
    clamp = {"x0": torch.randn(6, 4).double(), "x2": torch.randn(6, 3).double()}
    (_,) = learn(network, [clamp], torch.optim.SGD(network.parameters(), lr=0.1), rule="ipc", steps=5)
    f, g = (by_hand.predictors[name] for name in ("x0->x1", "x1->x2"))
    hidden = f(clamp["x0"]).detach()
    for _ in range(5):
        x = hidden.clone().requires_grad_()
        energy = ((x - f(clamp["x0"])) ** 2 + 0).sum() / 2 + ((clamp["x2"] - g(x)) ** 2).sum() / 2
        hidden = hidden - 0.5 * torch.autograd.grad(energy, x)[0]
        energy = ((hidden - f(clamp["x0"])) ** 2).sum() / 2 + ((clamp["x2"] - g(hidden)) ** 2).sum() / 2
        parameters = list(by_hand.parameters())
        for p, gradient in zip(parameters, torch.autograd.grad(energy / 6, parameters), strict=True):
            p.data -= 0.1 * gradient
    for found, expected in zip(network.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_zil_sees_the_errors_of_real_inference_one_level_a_step() -> None:
    """On a chain, plain inference at rate 1 passes through the very errors that Z-IL uses."""
    spec = chain([4, 5, 6, 3], ["Tanh", "Linear"])
    spec["dynamics"]["rate"] = 1.0
    network = pcg.build(pcg.parse_spec(spec)).double()
    clamp = {"x0": torch.randn(2, 4).double(), "x3": torch.randn(2, 3).double()}
    run = pcg.Scheduler(network).run(clamp=clamp, steps=2, record=["errors"])
    (update,) = learn(network, [clamp], torch.optim.SGD(network.parameters(), lr=0.0), rule="zil")
    energies = {f"x{3 - t - 1}->x{3 - t}": run.errors[f"x{3 - t - 1}->x{3 - t}"][t] for t in range(3)}
    for term, error in energies.items():
        torch.testing.assert_close(update.energy[term], error.square().sum(1).mean() / 2)


def test_bidirectional_edges_learn_both_ways() -> None:
    """Feedforward and feedback edges with their own errors: classify, and generate what was shown."""
    spec = {
        "name": "both",
        "nodes": {"image": {"shape": [6]}, "label": {"shape": [3]}},
        "edges": [{"source": "image", "target": "label", "predictor": ["Linear"]}],
        "feedback": [{"source": "label", "target": "image", "predictor": ["Linear"]}],
        "dynamics": {"rule": "energy"},
    }
    network = pcg.build(pcg.parse_spec(spec))
    images, labels = torch.randn(3, 6), torch.eye(3)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in learn(network, [{"image": images, "label": labels}] * 300, optimizer):
        pass
    scheduler = pcg.Scheduler(network)
    assert torch.allclose(scheduler.start(images).values["label"], labels, atol=0.05)
    settled = scheduler.run(clamp={"label": labels}, steps=300).state.values["image"]
    assert torch.allclose(settled, images, atol=0.05)


def test_learned_precision_finds_the_variance() -> None:
    spec = {
        "name": "noise",
        "nodes": {"a": {"shape": [1]}, "b": {"shape": [2]}},
        "edges": [{"source": "a", "target": "b", "predictor": ["Linear"], "precision": "learned"}],
        "dynamics": {"rule": "energy"},
    }
    network = pcg.build(pcg.parse_spec(spec))
    noise = torch.randn(4000, 2) * torch.tensor([0.5, 2.0])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in learn(network, [{"a": torch.zeros(4000, 1), "b": noise}] * 200, optimizer, steps=1):
        pass
    torch.testing.assert_close(network.energy("a->b").precision, 1 / noise.var(0), rtol=0.02, atol=0)


def test_what_rules_cannot_do_is_refused() -> None:
    network = pcg.build(pcg.parse_spec(LOOP))
    clamp = {"image": torch.randn(1, 6), "label": torch.eye(3)[:1]}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for rule in ("fpa", "zil", "bp"):
        with pytest.raises(pcg.InputError, match=r"cycle .*b"):
            next(learn(network, [clamp], optimizer, rule=rule))  # type: ignore[arg-type]
    with pytest.raises(pcg.InputError, match="Did you mean 'ipc'"):
        next(learn(network, [clamp], optimizer, rule="icp"))  # type: ignore[arg-type]
    spec = chain([2, 2, 2], ["Linear"]) | {"dynamics": {"rule": "predify"}}
    predify = pcg.build(pcg.parse_spec(spec))
    with pytest.raises(pcg.InputError, match="rule: energy"):
        next(learn(predify, [], optimizer))
    for p in network.parameters():
        p.data *= 1e6
    with pytest.raises(pcg.DivergenceError, match="Lower"):
        next(learn(network, [clamp], optimizer, rule="ipc", steps=100))
