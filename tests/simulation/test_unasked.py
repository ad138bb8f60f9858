"""What runs do without being asked: large kernels in tiles, against the direct algorithm in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from threading import Thread

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.predictors.fast import tiled_run
from pcgraph.predictors.fast.tiled_layer import TiledConvTranspose2d
from pcgraph.predictors.fast.tiled_run import Budget, best_tile
from tests.nets import chain

STEPS = 6


@pytest.fixture
def tiles_are_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small layers gain from tiles, too."""
    for name in ("MAKE", "READ", "VALUE"):
        monkeypatch.setattr(tiled_run, name, 0)


def network(kernel: int = 8, stride: int = 2) -> pcg.PCNetwork:
    """A backbone with feedback of a large kernel, whose weights require a gradient."""
    return copy.deepcopy(built(kernel, stride))


@cache
def built(kernel: int, stride: int) -> pcg.PCNetwork:
    padding = (kernel - stride) // 2
    large = {"ConvTranspose2d": {"kernel_size": kernel, "padding": padding, "stride": stride}}
    below = {"ConvTranspose2d": {"kernel_size": 7, "padding": 3}}
    spec = {
        "name": "large",
        "backbone": {"model": "torchvision:vgg16", "weights": None, "input": [3, 16, 16]},
        "nodes": {"e1": {"module": "1"}, "e2": {"module": "3"}},
        "feedback": [
            {"source": "e2", "target": "e1", "predictor": [large, "ReLU"]},
            {"source": "e1", "target": "input", "predictor": [below]},
        ],
        "dynamics": {"rule": "predify", "error": 0.1},
    }
    torch.manual_seed(0)
    return pcg.build(pcg.parse_spec(spec), model=chain())


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def exact(of: pcg.PCNetwork, given: Tensor, steps: int = STEPS) -> pcg.Run:
    """In float64, which is computed directly."""
    return pcg.Scheduler(copy.deepcopy(of).double(), direct=True).run(given.double(), steps)


def apart(got: pcg.Run, expected: pcg.Run) -> float:
    """The largest error of a last state, relative to its largest number."""
    pairs = [(got.state.values[name], value) for name, value in expected.state.values.items()]
    return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in pairs)


def same(got: pcg.Run, expected: pcg.Run) -> bool:
    return all(torch.equal(got.state.values[name], value) for name, value in expected.state.values.items())


@pytest.mark.heavy
@pytest.mark.parametrize(("kernel", "stride", "batch"), [(8, 2, 1), (14, 2, 3)])
@pytest.mark.usefixtures("tiles_are_cheap")
def test_a_long_run_uses_tiles_and_stays_exact(kernel: int, stride: int, batch: int) -> None:
    net, given = network(kernel, stride), images(batch)
    kinds = [type(module) for module in net.modules()]
    direct, got = (pcg.Scheduler(net, direct=direct).run(given, STEPS) for direct in (True, False))
    assert not same(got, direct), "no tiles were used"
    assert apart(got, exact(net, given)) < 2e-6
    assert torch.equal(got.output[0], direct.output[0])
    assert [type(module) for module in net.modules()] == kinds
    assert all(weight.requires_grad for weight in net.predictors.parameters())


@pytest.mark.usefixtures("tiles_are_cheap")
def test_all_that_is_recorded_agrees() -> None:
    net, given = network(), images()
    record = ["output", "values", "predictions", "errors", "energy", "gradients"]
    got = pcg.Scheduler(net).run(given, STEPS, record=record)
    direct = pcg.Scheduler(net, direct=True).run(given, STEPS, record=record)
    assert not same(got, direct)
    for quantity in record[1:]:
        expected = getattr(direct, quantity)
        assert getattr(got, quantity).keys() == expected.keys()
        for name, series in expected.items():
            for one, other in zip(getattr(got, quantity)[name], series, strict=True):
                assert one.is_contiguous()
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


def changes() -> dict[str, Callable[[pcg.PCNetwork], object]]:
    """Ways in which weights change between two runs."""

    def weight(net: pcg.PCNetwork) -> nn.Parameter:
        return net.predictors["e2->e1"][0].weight  # type: ignore[index, no-any-return]

    def learn(net: pcg.PCNetwork) -> None:
        loss = pcg.Scheduler(net).run(images(), 2, differentiable=True).state.values["e1"].square().mean()
        loss.backward()
        torch.optim.SGD(net.predictors.parameters(), 5.0).step()

    def load(net: pcg.PCNetwork) -> None:
        net.load_state_dict({name: value * 1.5 for name, value in net.state_dict().items()})

    def replace(net: pcg.PCNetwork) -> None:
        weight(net).data = weight(net).data * 2

    def new_layer(net: pcg.PCNetwork) -> None:
        channels = weight(net).shape[:2]
        net.predictors["e2->e1"][0] = nn.ConvTranspose2d(*channels, 8, 2, 3)  # type: ignore[index, operator]

    return {
        "learned": learn,
        "loaded": load,
        "written behind PyTorch's back": lambda net: weight(net).data.mul_(2),
        "written by NumPy": lambda net: weight(net).detach().numpy().__imul__(2),
        "replaced": replace,
        "another layer": new_layer,
    }


@pytest.mark.parametrize("name", changes())
@pytest.mark.usefixtures("tiles_are_cheap")
def test_weights_that_change_between_runs(name: str) -> None:
    net, given = network(), images()
    scheduler = pcg.Scheduler(net)
    before = scheduler.run(given, STEPS)
    changes()[name](net)
    after, expected = scheduler.run(given, STEPS), exact(net, given)
    assert apart(after, expected) < 2e-6
    assert apart(before, expected) > 1e-4


@pytest.mark.usefixtures("tiles_are_cheap")
def test_gradients_are_those_of_the_direct_algorithm() -> None:
    """Before and after a run that used tiles, to the last bit."""
    net, given = network(), images()
    scheduler = pcg.Scheduler(net)

    def gradients(of: pcg.Scheduler) -> list[Tensor]:
        loss = of.run(given, 3, differentiable=True).state.values["e1"].square().sum()
        return list(torch.autograd.grad(loss, list(net.predictors.parameters())))

    expected = gradients(pcg.Scheduler(net, direct=True))
    first = gradients(scheduler)
    with torch.inference_mode():
        scheduler.run(given, STEPS)
    after = gradients(scheduler)
    assert all(torch.equal(a, b) for got in (first, after) for a, b in zip(got, expected, strict=True))


def hooked(net: pcg.PCNetwork) -> None:
    for predictor in net.predictors.values():
        predictor.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        (lambda net: net.double(), {}),
        (lambda net: pcg.choose_convolutions(net, 2, memory=0), {}),
        (hooked, {}),
        (lambda net: None, {"watch": lambda *_: None}),
        (lambda net: None, {"memory": "1GB"}),
        (lambda net: None, {"differentiable": True}),
    ],
)
@pytest.mark.usefixtures("tiles_are_cheap")
def test_what_is_computed_directly(change: Callable[[pcg.PCNetwork], object], arguments: dict) -> None:  # type: ignore[type-arg]
    net, given = network(), images()
    change(net)
    expected = pcg.Scheduler(net, direct=True).run(given, STEPS)
    assert same(pcg.Scheduler(net).run(given, STEPS, **arguments), expected)


@pytest.mark.usefixtures("tiles_are_cheap")
def test_steps_by_hand_autocast_and_small_kernels_are_direct() -> None:
    net, given = network(), images()
    scheduler, direct = pcg.Scheduler(net), pcg.Scheduler(net, direct=True)
    expected, state = direct.run(given, 3).state, scheduler.start(given)
    for _ in range(3):
        state = scheduler.step(state)
    assert all(torch.equal(state.values[name], value) for name, value in expected.values.items())
    with torch.autocast("cpu", torch.bfloat16):
        assert same(scheduler.run(given, STEPS), direct.run(given, STEPS))
    small = network(6)
    small.predictors["e1->input"] = nn.ConvTranspose2d(net.graph.nodes["e1"].shape[0], 3, 5, padding=2)
    assert same(pcg.Scheduler(small).run(given, STEPS), pcg.Scheduler(small, direct=True).run(given, STEPS))


def test_a_short_run_makes_no_tiles() -> None:
    """The transforms have to pay off."""
    net, given = network(14), images()
    assert same(pcg.Scheduler(net).run(given, STEPS), pcg.Scheduler(net, direct=True).run(given, STEPS))


@pytest.mark.usefixtures("tiles_are_cheap")
def test_copies_and_threads() -> None:
    net, given = network(), images()
    expected = pcg.Scheduler(net).run(given, STEPS)
    assert same(pcg.Scheduler(copy.deepcopy(net)).run(given, STEPS), expected)
    scheduler, found = pcg.Scheduler(net), []
    threads = [Thread(target=lambda: found.append(scheduler.run(given, STEPS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(apart(one, expected) < 1e-6 for one in found)


def layers_of_vgg16() -> list[tuple[TiledConvTranspose2d, tuple[int, ...]]]:
    """The published network's large kernels, without memory, and the shapes of what they read."""
    sizes = [(128, 64, 10, 4, 112), (256, 128, 14, 6, 56), (512, 256, 14, 6, 28), (512, 512, 14, 6, 14)]
    with torch.device("meta"):
        return [(TiledConvTranspose2d(c, t, k, 2, p), (1, c, size, size)) for c, t, k, p, size in sizes]


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20, 1000])
def test_the_choice_keeps_its_promises(steps: int) -> None:
    budget, chosen = Budget(steps), []
    for layer, shape in layers_of_vgg16():
        tile = best_tile(layer, shape, budget)
        assert tile == best_tile(layer, (7, *shape[1:]), budget), "it depends on the batch"
        assert tile in (None, 6, 8, 11)  # 10 is less exact
        budget.bytes -= layer.transformed_bytes(tile) if tile else 0
        chosen.append(tile)
    assert budget.bytes >= 0
    assert (steps == 0) == (not any(chosen)) or steps == 1
    assert steps < 20 or all(chosen)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, shape = layers_of_vgg16()[2]
    assert best_tile(layer, shape, Budget(20)) == 11
    assert best_tile(layer, shape, Budget(20, layer.transformed_bytes(11) - 1)) == 8
    assert best_tile(layer, shape, Budget(20, 0)) is None
