"""A network in a torch user's hands: copied, saved, moved, parametrised, watched, sent to a process."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import pcgraph as pcg
from pcgraph.learning.dense import Layered
from pcgraph.network import PCNetwork
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d
from tests.test_forward import MLP


def wide() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 6 * 6, 10),
    )


def backed() -> PCNetwork:
    """A backbone, a wide map whose `auto` predictor is computed by products, and one of two layers."""
    spec = {
        "name": "backed",
        "backbone": {"input": [1, 12, 12]},
        "nodes": {"e1": "1", "e2": "3"},
        "feedback": [
            {"source": "e1", "target": "input", "predictor": [{"Conv2d": {"kernel_size": 1}}, "Tanh"]},
            {"source": "e2", "target": "e1"},
        ],
        "dynamics": {"feedforward": 0.4, "feedback": 0.3, "error": 0.05, "gradient": "sum"},
        "schedule": {"order": "sweep", "steps": 3},
    }
    network = pcg.build(spec, model=wide())
    assert network.predictors["e2->e1"].rows is not None  # computed by products, not layer by layer
    return network


def free() -> PCNetwork:
    return pcg.build(MLP)


NETWORKS = pytest.mark.parametrize("make", [backed, free])


def given(network: PCNetwork) -> Tensor:
    shape = network.graph.nodes[network.graph.receiver].shape
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def final(network: PCNetwork) -> dict[str, Tensor]:
    """Where every state is after three steps."""
    return dict(pcg.Scheduler(network).run(given(network), 3, record=[]).state.values)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def saved(network: PCNetwork) -> Any:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "torch.save": saved,
}


@NETWORKS
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_runs_bit_for_bit_and_is_its_own(make: Any, how: str) -> None:
    network = make()
    used = pcg.Scheduler(network)
    used.run(given(network), 2)  # what a run makes on the way does not stand in the way
    before = final(network)
    again = COPIES[how](network)
    assert same(final(again), before)
    assert again.spec == network.spec
    assert again.spec.locate(("nodes",)) == network.spec.locate(("nodes",))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(0.1)
    assert same(final(network), before)
    assert not same(final(again), before)


@NETWORKS
def test_a_copied_scheduler_has_a_network_of_its_own(make: Any) -> None:
    scheduler = pcg.Scheduler(make())
    before = final(scheduler.network)
    other = copy.deepcopy(scheduler)
    assert other.network is not scheduler.network
    with torch.no_grad():
        for parameter in scheduler.network.parameters():
            parameter.zero_()
    assert same(dict(other.run(given(other.network), 3, record=[]).state.values), before)


@NETWORKS
def test_a_state_dict_moves_all_that_counts(make: Any) -> None:
    network, file = make(), io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    torch.manual_seed(3)
    other = pcg.build(network.spec, seed=9, **({"model": wide()} if network.drive else {}))
    assert not same(final(other), final(network))
    assert not any(other.load_state_dict(torch.load(file, weights_only=True)))
    assert same(final(other), final(network))


@NETWORKS
def test_types_and_devices(make: Any) -> None:
    network = make()
    expected = final(network)
    for dtype, cast in ((torch.float64, "double"), (torch.float16, "half"), (torch.bfloat16, "bfloat16")):
        moved = getattr(copy.deepcopy(network), cast)()
        values = final(moved)
        assert {value.dtype for value in values.values()} == {dtype}
        assert moved.dtype == dtype
        tolerance = 1e-5 if dtype == torch.float64 else 0.05
        for name, value in values.items():
            torch.testing.assert_close(value.float(), expected[name], atol=tolerance, rtol=tolerance)
    assert copy.deepcopy(network).to("meta").device.type == "meta"


def child(network: PCNetwork, results: Any) -> None:
    results.put({name: value.numpy() for name, value in final(network).items()})


@pytest.mark.heavy
def test_a_spawned_process_runs_what_it_is_sent() -> None:
    network = backed()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=child, args=(network, results))
    process.start()
    found = results.get(timeout=300)
    process.join()
    expected = final(network)
    for name, value in found.items():
        torch.testing.assert_close(torch.from_numpy(value), expected[name], rtol=0, atol=1e-6)


# ---- hooks and parametrisations -------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def weighted(network: PCNetwork) -> list[nn.Module]:
    return [
        part for part in network.predictors.modules() if isinstance(getattr(part, "weight", None), Tensor)
    ]


@NETWORKS
def test_parametrised_weights_are_the_weights(make: Any) -> None:
    """Of every layer of every predictor; the oracle has the same weights written in."""
    network, plain = make().double(), make().double()
    plain.load_state_dict(network.state_dict())
    for layer, other in zip(weighted(network), weighted(plain), strict=True):
        parametrize.register_parametrization(layer, "weight", Doubled())
        other.weight.data.mul_(2)
    for name, value in final(plain).items():
        torch.testing.assert_close(final(network)[name], value, rtol=1e-9, atol=1e-12)
    again = copy.deepcopy(network)
    assert same(final(again), final(network))
    for layer in weighted(network):
        parametrize.remove_parametrizations(layer, "weight")
    for name, value in final(plain).items():
        torch.testing.assert_close(final(network)[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("how", ["spectral", "weight_norm", "prune"])
@NETWORKS
def test_what_libraries_do_to_weights(make: Any, how: str) -> None:
    """Some of them make the weight in a hook, at each call: it follows what it is made of."""
    network, plain = make().double(), make().double()
    for layer in weighted(network):
        if how == "spectral":
            parametrizations.spectral_norm(layer)
        elif how == "weight_norm":
            parametrizations.weight_norm(layer)
        else:
            prune.random_unstructured(layer, "weight", amount=0.5)
            layer.weight_orig.data.mul_(1.5)
    network.eval()
    final(network)
    for layer, other in zip(weighted(network), weighted(plain), strict=True):
        made = layer.weight_orig * layer.weight_mask if how == "prune" else layer.weight
        other.weight.data.copy_(made.detach())
        other.bias.data.copy_(layer.bias.detach())
    if plain.drive is not None:
        plain.drive.load_state_dict(network.drive.state_dict())
    found = final(network)
    for name, value in final(plain).items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)


@NETWORKS
def test_a_hook_that_changes_a_layers_output_changes_the_prediction_and_its_gradient(make: Any) -> None:
    """Of every layer in turn; the oracle wraps the layer in a module that does the same."""
    for place in range(len(weighted(make()))):
        hooked, wrapped, plain = make().double(), make().double(), make().double()
        for other in (wrapped, plain):
            other.load_state_dict(hooked.state_dict())
        weighted(hooked)[place].register_forward_hook(lambda module, args, output: torch.sin(output) * 3)
        layer = weighted(wrapped)[place]
        layer.forward = lambda x, run=layer.forward: torch.sin(run(x)) * 3
        found, expected = final(hooked), slow(wrapped, place)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(final(wrapped)[name], value, rtol=1e-9, atol=1e-12)
        assert not same(found, final(plain))


def slow(network: PCNetwork, place: int) -> dict[str, Tensor]:
    """The run with the predictor of that layer as one foreign module, which no fast way knows."""

    class Foreign(nn.Module):
        def __init__(self, inside: nn.Module) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, *sources: Tensor) -> Tensor:
            if isinstance(self.inside, UpsampledConvTranspose2d):
                upsample, convolution = self.inside
                return convolution(upsample(*sources))
            return self.inside(*sources)

    changed = copy.copy(network)
    changed._modules = dict(network._modules)
    layer = weighted(network)[place]
    changed.predictors = nn.ModuleDict(
        {
            name: Foreign(inside) if any(part is layer for part in inside.modules()) else inside
            for name, inside in network.predictors.items()
        }
    )
    return final(changed)


def test_which_hooks_fire_and_how_often() -> None:
    """Of predictors and their layers at every evaluation; of the backbone's layers, too, but of none of its
    containers, which are traced through; of the network when it is called.
    """
    network = backed()
    assert isinstance(network.predictors["e2->e1"], UpsampledConvTranspose2d)
    fired: Counter[str] = Counter()
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: fired.update([name]))
    with torch.no_grad():
        network(given(network), steps=3)
    assert fired[""] == 1
    assert {name: fired[name] for name in fired if name.startswith("predictors")} == {
        "predictors.e1->input": 3,
        "predictors.e1->input.0": 3,
        "predictors.e1->input.1": 3,
        "predictors.e2->e1": 3,
        "predictors.e2->e1.0": 3,
        "predictors.e2->e1.1": 3,
    }
    # the layers below the first node once a run, those above at every step, the head for the output
    layers = {str(place): fired[f"drive.model.{place}"] for place in range(6)}
    assert layers == {"0": 1, "1": 1, "2": 4, "3": 4, "4": 1, "5": 1}
    assert not fired["drive"]
    assert not fired["drive.model"]


def test_inference_in_plain_algebra_is_not_for_layers_with_hooks() -> None:
    spec = {**MLP, "feedback": "none"}
    fixed = frozenset({"image", "label"})
    assert Layered.find(pcg.build(spec), fixed) is not None
    for place in ("hidden->label", "image->hidden"):
        network = pcg.build(spec)
        network.predictors[place].register_forward_hook(lambda module, args, output: output * 2)
        assert (Layered.find(network, fixed) is None) == (place == "hidden->label")
