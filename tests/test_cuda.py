"""On a GPU: the numbers of the CPU, for all that a run, a training and a command do.

Skipped where there is none. The variable PCGRAPH_TEST_DEVICE names another device.
"""

from __future__ import annotations

import copy
import csv
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import pcgraph as pcg
from pcgraph.datasets import digits
from pcgraph.files.shipped import shipped_spec, shipped_specs
from pcgraph.learning import batches, learn

from .cli.conftest import Cli, cli, small  # noqa: F401  fixtures
from .nets import RULES, Residual, residual
from .tracing.test_random_models import Net, vonenet

DEVICE = os.environ.get("PCGRAPH_TEST_DEVICE", "cuda")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU here"),
]

EVERYTHING = ["output", "values", "predictions", "errors", "energy", "gradients"]
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch lets convolutions of float32 round to 10 bits, if it is not told otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def images(batch: int = 4, side: int = 16) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_same_run(there: pcg.Run, here: pcg.Run, **tolerance: float) -> None:
    for quantity in EVERYTHING:
        found, expected = getattr(there, quantity), getattr(here, quantity)
        pairs = (
            {"": (found, expected)}
            if quantity == "output"
            else {n: (found[n], expected[n]) for n in expected}
        )
        for one, other in pairs.values():
            for a, b in zip(one, other, strict=True):
                if b is not None:
                    assert a.device.type == DEVICE
                    torch.testing.assert_close(a.cpu(), b, **tolerance)


@pytest.mark.parametrize("order", ["sweep", "synchronous"])
@pytest.mark.parametrize("rule", RULES)
def test_a_run_gives_the_numbers_of_the_cpu(rule: str, order: str) -> None:
    network = residual(rule, order).double()
    here = pcg.Scheduler(network).run(images(), steps=6, record=EVERYTHING)
    network.to(DEVICE)
    there = pcg.Scheduler(network).run(images().to(DEVICE), steps=6, record=EVERYTHING)
    assert_same_run(there, here, **EXACT)


@pytest.mark.parametrize("name", [n for n in shipped_specs() if n.startswith("pc_")])
def test_shipped_networks_without_a_backbone(name: str) -> None:
    network = pcg.build(shipped_spec(name)).double()
    given = {"image": digits().test_images[:5].double()}
    here = pcg.Scheduler(network).run(clamp=given, steps=10, record=["values", "energy"])
    there = pcg.Scheduler(network.to(DEVICE)).run(
        clamp={node: value.to(DEVICE) for node, value in given.items()}, steps=10, record=["values", "energy"]
    )
    for node, series in here.values.items():
        torch.testing.assert_close(there.values[node][-1].cpu(), series[-1], **EXACT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_model_that_is_there_already(dtype: torch.dtype) -> None:
    """Predictors and masks follow the device and the type of the model that `build` is given."""
    spec = residual().spec
    for edges in (spec.feedback, ["chain"]):
        model = Residual().eval().to(DEVICE, dtype)
        network = pcg.build(spec.model_copy(update={"feedback": edges}), model=model)
        assert {(p.device.type, p.dtype) for p in network.parameters()} == {(DEVICE, dtype)}
        given = images().to(DEVICE, dtype)
        run = pcg.Scheduler(network).run(given, steps=3)
        with torch.no_grad():
            assert torch.equal(run.output[0], model(given))
        assert run.output[-1].dtype == dtype
        assert run.output[-1].isfinite().all()


def test_masked_connections() -> None:
    edges = [
        {"source": "a", "target": "b", "predictor": ["Linear"], "mask": {"density": 0.3}},
        {"source": "b", "target": "a", "predictor": ["Linear", "Tanh"], "delay": 2},
    ]
    spec = {
        "name": "masked",
        "nodes": {"a": {"shape": [16]}, "b": {"shape": [16]}},
        "edges": edges,
        "dynamics": {"rule": "energy", "rate": 0.1},
        "schedule": {"initial": "normal"},
    }
    network = pcg.build(pcg.parse_spec(spec)).double()
    given = {"a": torch.randn(3, 16, dtype=torch.float64)}
    run = {}
    for device in ("cpu", DEVICE):
        network.to(device)
        clamp = {"a": given["a"].to(device)}
        generator = torch.Generator().manual_seed(5)
        run[device] = pcg.Scheduler(network).run(clamp=clamp, steps=8, generator=generator).state.values["b"]
    torch.testing.assert_close(run[DEVICE].cpu(), run["cpu"], **EXACT)


def test_parts_tape_and_memory_limit(tmp_path: Path) -> None:
    network = residual().double().to(DEVICE)
    given = images(9).to(DEVICE)
    whole = pcg.Scheduler(network).run(given, steps=4, record=["output", "values"])
    parts = pcg.Scheduler(network).run(given, steps=4, record=["output", "values"], memory="6MB")
    with pcg.Tape(tmp_path / "run.safetensors") as tape:
        pcg.Scheduler(network).run(given, steps=4, record=["values"], to=tape)
    for node, series in whole.values.items():
        torch.testing.assert_close(parts.values[node][-1], series[-1], **EXACT)
    from safetensors.torch import load_file

    taped = load_file(tmp_path / "run.safetensors")
    for node, series in whole.values.items():
        torch.testing.assert_close(taped[f"values:{node}"], torch.stack(series).cpu(), **EXACT)


@pytest.mark.parametrize("checkpoint", [True, False])
def test_gradients_through_the_run(checkpoint: bool) -> None:
    network = residual().double()
    found = {}
    for device in ("cpu", DEVICE):
        network.to(device)
        given = images().to(device).requires_grad_()
        scheduler = pcg.Scheduler(network)
        run = scheduler.run(given, 4, record=[], differentiable=True, checkpoint=checkpoint)
        loss = scheduler.readout(run.state, differentiable=True).square().mean()
        found[device] = torch.autograd.grad(loss, given)[0].cpu()
    torch.testing.assert_close(found[DEVICE], found["cpu"], **EXACT)


@pytest.mark.parametrize("rule", ["predify", "energy"])
def test_compiled_steps(rule: str) -> None:
    """Of two runs, so that what a CUDA graph wrote the first time would be written over by the second."""
    network = residual(rule).float()
    given = [images().float(), images().float() + 1]
    plain = [pcg.Scheduler(copy.deepcopy(network)).run(one, 5, record=EVERYTHING) for one in given]
    scheduler = pcg.Scheduler(network.to(DEVICE)).compile()
    runs = [scheduler.run(one.to(DEVICE), 5, record=EVERYTHING) for one in given]
    for there, here in zip(runs, plain, strict=True):
        assert_same_run(there, here, rtol=1e-4, atol=1e-4)


def test_large_kernels_that_are_chosen_by_measuring() -> None:
    spec = {
        "name": "large",
        "nodes": {"a": {"shape": [4, 24, 24]}, "b": {"shape": [6, 12, 12]}},
        "edges": [
            {
                "source": "b",
                "target": "a",
                "predictor": [{"ConvTranspose2d": {"kernel_size": 10, "stride": 2, "padding": 4}}],
            }
        ],
        "dynamics": {"rule": "energy", "rate": 0.02},
    }
    network = pcg.build(pcg.parse_spec(spec)).requires_grad_(False)
    given = {"a": torch.randn(2, 4, 24, 24)}
    here = pcg.Scheduler(network).run(clamp=given, steps=5).state.values["b"]
    network.to(DEVICE)
    pcg.choose_convolutions(network, batch=2)
    there = pcg.Scheduler(network).run(clamp={"a": given["a"].to(DEVICE)}, steps=5).state.values["b"]
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)


def test_a_model_that_draws_draws_the_same() -> None:
    spec = {
        "name": "random",
        "backbone": {"input": [3, 8, 8]},
        "nodes": {"e1": "conv", "e2": "mix"},
        "feedback": "chain",
    }
    model = Net(vonenet).eval()
    network = pcg.build(pcg.parse_spec(spec), model=model).double()
    found = {}
    for device in ("cpu", DEVICE):
        network.to(device)
        found[device] = pcg.Scheduler(network).run(images(5, 8).to(device), steps=3, seed=7).output[-1].cpu()
    torch.testing.assert_close(found[DEVICE], found["cpu"], **EXACT)


@pytest.mark.parametrize("name", ["pc_mlp", "pc_skip", "pc_cycle"])
@pytest.mark.parametrize("rule", ["il", "ipc"])
def test_learning_by_local_errors(name: str, rule: Any) -> None:
    weights = {}
    data = digits()
    given = {
        "image": data.train_images[:60].double(),
        "label": F.one_hot(data.train_labels[:60], 10).double(),
    }
    for device in ("cpu", DEVICE):
        spec = pcg.load_spec(shipped_spec(name)).model_copy(update={"weights": None})
        network = pcg.build(spec).double().to(device)
        clamp = {node: value.to(device) for node, value in given.items() if node in network.graph.nodes}
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
        order = torch.Generator().manual_seed(0)
        for _ in learn(network, batches(clamp, 20, order), optimizer, rule=rule, steps=8):
            pass
        weights[device] = {key: value.cpu() for key, value in network.state_dict().items()}
    for key, value in weights["cpu"].items():
        torch.testing.assert_close(weights[DEVICE][key], value, **EXACT)


def test_the_spectral_radius() -> None:
    network = residual().double()
    found = {}
    for device in ("cpu", DEVICE):
        scheduler = pcg.Scheduler(network.to(device))
        found[device] = pcg.spectral_radius(scheduler, scheduler.start(images().to(device)), tolerance=1e-6)
    assert found[DEVICE] == pytest.approx(found["cpu"], rel=1e-4)


def test_copies_and_half_of_a_network_that_moved(tmp_path: Path) -> None:
    network = residual().float().to(DEVICE)
    given = images().float().to(DEVICE)
    run = pcg.Scheduler(network).run(given, steps=2)
    again = pcg.Scheduler(copy.deepcopy(network)).run(given, steps=2)
    torch.testing.assert_close(again.output[-1], run.output[-1])  # a GPU adds in any order
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = residual().float()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", map_location="cpu", weights_only=True))
    back = pcg.Scheduler(other).run(given.cpu(), steps=2)
    torch.testing.assert_close(back.output[-1], run.output[-1].cpu(), rtol=1e-4, atol=1e-4)
    network.half()
    assert pcg.Scheduler(network).run(given.half(), steps=2).output[-1].isfinite().all()


def column(path: Path, name: str) -> list[float]:
    with path.open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_commands(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    """Each command on the GPU and on the CPU: the same losses up to rounding, and the same counts."""
    commands = """\
train digits --epochs 1 --limit 200 --out PLACE/train
train pc_mlp --data digits --epochs 1 --limit 200 --out PLACE/learn
run PLACE/train/spec.yaml digits:test:0-4 --out PLACE/run
evaluate digits --data digits --limit 100 --noise gaussian:0.5 --memory 200MB --out PLACE/evaluate
tune digits --data digits --epochs 1 --out PLACE/tune
query pc_full --clamp label=3 --out PLACE/query"""
    for place, device in (("here", "cpu"), ("there", DEVICE)):
        for command in commands.replace("PLACE", place).splitlines():
            outcome = cli(*command.split(), "--device", device, "-q")
            assert outcome.status == 0, (command, outcome.err)
    here, there = tmp_path / "here", tmp_path / "there"
    for run in ("train", "learn", "tune"):
        found, expected = (column(place / run / "losses.csv", "value") for place in (there, here))
        assert found[:3] == pytest.approx(expected[:3], rel=1e-3)
        assert found == pytest.approx(expected, rel=0.1)  # over many updates rounding adds up
    correct = column(there / "evaluate" / "evaluation.csv", "value")
    assert correct == pytest.approx(column(here / "evaluate" / "evaluation.csv", "value"), abs=0.021)
