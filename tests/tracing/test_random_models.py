"""Models that are random in eval mode: drawn by the seed, the image's place and the step alone."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Exponential, Normal
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import StochasticDepth, stochastic_depth

import pcgraph as pcg
from pcgraph.errors import ModelError, PCGraphWarning
from pcgraph.tracing import Drive

SHAPE = (3, 8, 8)
Change = Callable[[nn.Module, Tensor], Tensor]


class Net(nn.Module):
    """Two layers, and what is random between them."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.mix = nn.Conv2d(4, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)
        self.head = nn.Linear(4, 5)
        self.stream = torch.Generator()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        x = self.change(self, torch.relu(self.conv(x)))
        return self.head(torch.relu(self.mix(x)).mean((2, 3)))


def vonenet(net: nn.Module, x: Tensor) -> Tensor:
    """The noise of a V1 front end: its deviation is the root of the mean."""
    noise = Normal(torch.zeros_like(x), 1.0).rsample()
    noise *= torch.sqrt(F.relu(x.clone()) + 1e-4)
    x = x.clone()
    x += noise
    return x


def attended(net: Any, x: Tensor) -> Tensor:
    """Attention whose dropout is on, over the pixels of a row."""
    rows = x.permute(0, 2, 3, 1).flatten(0, 1)
    query, key, value = net.attention.in_proj_weight.chunk(3)
    mixed = F.scaled_dot_product_attention(rows @ query.T, rows @ key.T, rows @ value.T, dropout_p=0.4)
    return mixed.view(x.shape[0], 8, 8, 4).permute(0, 3, 1, 2)


def time_first(net: nn.Module, x: Tensor) -> Tensor:
    """Dropout on (time, batch, features)."""
    steps = F.dropout(x.flatten(2).permute(2, 0, 1), 0.3, training=True)
    return steps.permute(1, 2, 0).view_as(x)


def own_stream(net: Any, x: Tensor) -> Tensor:
    """Noise from a generator that the model keeps."""
    return x + 0.3 * torch.randn(x.shape, generator=net.stream)


KINDS: dict[str, Change] = {
    "dropout": lambda net, x: F.dropout(x, 0.4, training=True),
    "channels": lambda net, x: F.dropout2d(x, 0.4, training=True),
    "alpha": lambda net, x: F.alpha_dropout(x, 0.4, training=True),
    "noise": lambda net, x: x + torch.randn_like(x),
    "uniform": lambda net, x: x + torch.empty_like(x).uniform_(-1, 1),
    "bernoulli": lambda net, x: torch.bernoulli(torch.sigmoid(x)) * x,
    "gates": lambda net, x: x * torch.empty(x.shape[0], 1, 1, 1).bernoulli_(0.5),
    "depth": lambda net, x: x + stochastic_depth(torch.tanh(x), 0.5, "row", training=True),
    "gumbel": lambda net, x: F.gumbel_softmax(x, dim=1),
    "integers": lambda net, x: x * torch.randint(1, 4, (x.shape[0], 1, 1, 1)),
    "vonenet": vonenet,
    "attended": attended,
    "time first": time_first,
    "own stream": own_stream,
}
SHARED: dict[str, Change] = {
    "weights": lambda net, x: F.conv2d(x, torch.randn(4, 4, 1, 1)),
    "order": lambda net, x: x[:, torch.randperm(4)],
    "depth of a batch": lambda net, x: x + stochastic_depth(torch.tanh(x), 0.5, "batch", training=True),
}
SPEC = {
    "name": "random",
    "backbone": {"input": list(SHAPE)},
    "nodes": {"e1": "conv", "e2": "mix"},
    "feedback": "chain",
    "dynamics": {"rule": "predify", "feedforward": 0.4, "feedback": 0.3, "error": 0.05},
    "schedule": {"steps": 3},
}


def network(change: Change, **schedule: object) -> pcg.PCNetwork:
    spec = {**SPEC, "schedule": {"steps": 3, **schedule}}
    return pcg.build(pcg.parse_spec(spec), model=Net(change).eval())


class Played(TorchDispatchMode):
    """Hands out numbers instead of what the model would draw: an oracle of the test's own."""

    def __init__(self, made: Callable[[str, Tensor], Tensor]) -> None:
        super().__init__()
        self.made = made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("randn_like", "normal_", "bernoulli_", "bernoulli"):
            made = self.made(name, args[0])
            return result.copy_(made)
        return result


def some(kinds: Iterable[str], *first: str) -> list[Any]:
    """All kinds; `make test` tries the first, and `.ci/run` the others."""
    return [pytest.param(kind, marks=[] if kind in first else pytest.mark.heavy) for kind in kinds]


@pytest.mark.parametrize("kind", some(["noise", "vonenet", "dropout", "depth"], "vonenet"))
def test_step_0_is_the_model_with_these_draws(kind: str) -> None:
    net = Net(KINDS[kind]).eval()
    built = pcg.build(pcg.parse_spec(SPEC), model=net)
    images = torch.randn(3, *SHAPE)
    run = pcg.Scheduler(built).run(images, 0, seed=4, places=[7, 2, 9])
    (drawn,) = built.draws(4, [7, 2, 9], 0).values()
    chance = {"dropout": 0.6, "depth": 0.5}.get(kind)

    def made(name: str, like: Tensor) -> Tensor:
        return drawn if chance is None else (drawn < chance).to(like.dtype)

    with torch.no_grad(), Played(made):
        expected = net(images)
    torch.testing.assert_close(run.output[0], expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(expected, net(images))


@pytest.mark.parametrize("kind", some(KINDS, "noise", "dropout"))
def test_draws_follow_seed_place_and_step(kind: str) -> None:
    built = network(KINDS[kind])
    images, places = torch.randn(5, *SHAPE), [3, 0, 8, 5, 1]
    scheduler = pcg.Scheduler(built)

    def states(images: Tensor, places: list[int], seed: int = 1) -> Tensor:
        run = scheduler.run(images, seed=seed, places=places, record=["output", "values:e2"])
        return torch.cat([torch.stack(run.output).flatten(2), torch.stack(run.values["e2"]).flatten(2)], 2)

    whole = states(images, places)
    assert torch.equal(states(images, places), whole)
    parts = [states(images[a:b], places[a:b]) for a, b in ((0, 1), (1, 3), (3, 5))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(states(images, places, seed=2), whole)
    same = states(images[:1].expand(5, *SHAPE), places)
    assert not torch.allclose(same[:, 0], same[:, 1])
    for one, other in ((0, 1), (1, 2)):
        drawn = [next(iter(built.draws(1, places, step).values())) for step in (one, other)]
        assert not torch.equal(*drawn)


@pytest.mark.parametrize("order", ["sweep", "synchronous"])
def test_any_batch_gives_the_same_bits(order: str) -> None:
    """Convolutions of one image and of several may round apart; what is drawn may not."""
    built = network(KINDS["vonenet"], order=order).double()
    places = [3, 0, 8]
    whole, alone = built.draws(1, places, 2), [built.draws(1, [place], 2) for place in places]
    for key, numbers in whole.items():
        assert torch.equal(numbers, torch.cat([one[key] for one in alone]))
    images = torch.randn(3, *SHAPE, dtype=torch.float64)
    scheduler = pcg.Scheduler(built)
    joined = scheduler.run(images, seed=1, places=places, record=["values"])
    for at, place in enumerate(places):
        run = scheduler.run(images[at : at + 1], seed=1, places=[place], record=["values"])
        for name, series in run.values.items():
            for one, all_of_them in zip(series, joined.values[name], strict=True):
                torch.testing.assert_close(one[0], all_of_them[at], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", some(SHARED, "depth of a batch"))
def test_what_all_images_share_follows_seed_and_step(kind: str) -> None:
    built = network(SHARED[kind])
    images = torch.randn(3, *SHAPE)
    scheduler = pcg.Scheduler(built)
    whole = scheduler.run(images, seed=6).output[-1]
    alone = torch.cat([scheduler.run(one[None], seed=6).output[-1] for one in images])
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-5)
    drawn = {
        tuple(next(iter(built.draws(s, [0], t).values())).flatten().tolist()) for s in (1, 2) for t in (0, 1)
    }
    assert len(drawn) == 4


def test_parts_of_a_batch_and_repetitions_draw_the_same() -> None:
    built = network(KINDS["vonenet"])
    images = torch.randn(4, *SHAPE)
    scheduler = pcg.Scheduler(built)
    whole = scheduler.run(images, seed=3)
    cut = scheduler.run(images, seed=3, memory=100_000)
    torch.testing.assert_close(torch.stack(cut.output), torch.stack(whole.output), rtol=1e-5, atol=1e-5)
    assert cut.state.places == (0, 1, 2, 3)
    for key, made in whole.state.draws.items():
        assert torch.equal(cut.state.draws[key], made)
    after = scheduler.step(whole.state)
    torch.testing.assert_close(
        scheduler.step(cut.state).values["e2"], after.values["e2"], rtol=1e-5, atol=1e-5
    )


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["dropout", "noise", "vonenet"])
@pytest.mark.parametrize("order", ["sweep", "synchronous"])
def test_checkpointing_computes_the_same_step_again(kind: str, order: str) -> None:
    built = network(KINDS[kind], order=order)
    found = []
    for checkpoint in (False, True):
        images = torch.linspace(-1, 1, 2 * math.prod(SHAPE)).view(2, *SHAPE).requires_grad_()
        run = pcg.Scheduler(built).run(images, seed=2, differentiable=True, checkpoint=checkpoint)
        found.append(torch.autograd.grad(run.output[-1].square().sum(), images)[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("order", ["sweep", "synchronous"])
def test_gradients_see_the_draws_of_the_forward_pass(order: str) -> None:
    """Against finite differences, which make the same steps once more."""
    built = network(KINDS["dropout"], order=order, steps=2).double()
    scheduler = pcg.Scheduler(built)

    def loss(images: Tensor) -> Tensor:
        run = scheduler.run(images, seed=2, differentiable=True)
        return run.output[-1].square().sum()

    images = torch.randn(1, *SHAPE, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(images), images)
    way = torch.randn_like(images)
    with torch.no_grad():
        difference = (loss(images + 1e-6 * way) - loss(images - 1e-6 * way)) / 2e-6
    torch.testing.assert_close((gradient * way).sum(), difference, rtol=1e-5, atol=1e-7)


@pytest.mark.heavy
@pytest.mark.long
@pytest.mark.parametrize("order", ["sweep", "synchronous"])
def test_compiled_steps_draw_the_same(order: str) -> None:
    built = network(KINDS["vonenet"], order=order)
    images = torch.randn(2, *SHAPE)
    plain = pcg.Scheduler(built).run(images, seed=5)
    compiled = pcg.Scheduler(built).compile(backend="aot_eager").run(images, seed=5)
    torch.testing.assert_close(torch.stack(compiled.output), torch.stack(plain.output), rtol=1e-4, atol=1e-5)


DISTRIBUTIONS: dict[str, tuple[Change, float, float]] = {
    "normal": (lambda net, x: Normal(0.5 + 0 * x, 2.0).rsample(), 0.5, 4.0),
    "sample": (lambda net, x: Normal(0.5 + 0 * x, 2.0).sample(), 0.5, 4.0),
    "torch.normal": (lambda net, x: torch.normal(1.0, 3.0, x.shape), 1.0, 9.0),
    "normal_": (lambda net, x: torch.empty_like(x).normal_(-1, 0.5), -1.0, 0.25),
    "uniform": (lambda net, x: torch.empty_like(x).uniform_(-1, 3), 1.0, 16 / 12),
    "rand": (lambda net, x: torch.rand(x.shape), 0.5, 1 / 12),
    "dropout": (lambda net, x: F.dropout(torch.ones_like(x), 0.2, training=True), 1.0, 0.25),
    "bernoulli": (lambda net, x: torch.bernoulli(torch.full_like(x, 0.3)), 0.3, 0.21),
    "exponential": (lambda net, x: Exponential(2.0 + 0 * x).rsample(), 0.5, 0.25),
    "integers": (lambda net, x: torch.randint(2, 6, x.shape).to(x.dtype), 3.5, 1.25),
    "integers like": (lambda net, x: torch.randint_like(x, 4), 1.5, 1.25),
}


@pytest.mark.parametrize("kind", some(DISTRIBUTIONS, "normal"))
def test_mean_and_variance_are_those_of_the_distribution(kind: str) -> None:
    change, mean, variance = DISTRIBUTIONS[kind]

    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return change(self, x) + 0 * x

    drive = Drive(Bare(), {}, SHAPE)
    (stage,) = drive.stages([["output"]], frozenset())
    constants = drive.constants(frozenset())({})
    made = []
    for step in range(40):
        draws = drive.draws(0, range(20), step, torch.device("cpu"))
        made.append(stage({"input": torch.randn(20, *SHAPE), **draws, **constants})["output"])
    numbers = torch.stack(made).flatten().double()
    error = math.sqrt(variance / len(numbers))
    assert abs(numbers.mean().item() - mean) < 5 * error
    assert numbers.var().item() == pytest.approx(variance, rel=0.03)
    near = torch.stack(made).flatten(2)
    correlation = torch.corrcoef(near[:, :2].transpose(0, 1).flatten(1))[0, 1]
    assert abs(correlation) < 0.05  # two images have nothing in common


def test_the_mean_over_draws_is_the_expectation() -> None:
    """A linear readout of a map with dropout: on average that of the map itself."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor, share: float = 0.5) -> Tensor:
            return self.head(F.dropout(self.conv(x), share, training=True).mean((2, 3)))

    model = Linear().eval()
    spec = pcg.parse_spec({**SPEC, "nodes": {"e1": "conv"}})
    images = torch.randn(1, *SHAPE).expand(4000, *SHAPE)
    found = pcg.Scheduler(pcg.build(spec, model=model)).run(images, 0, seed=1).output[0]
    expected = model(images[:1], share=0.0)[0]
    error = found.std(dim=0) / math.sqrt(len(found))
    assert bool(((found.mean(dim=0) - expected).abs() < 5 * error).all())
    assert bool((found.std(dim=0) > 0.01).all())


def test_dropout_that_is_left_on_in_a_model_of_eval_mode_stays_on() -> None:
    """The usual recipe of Monte Carlo dropout, and stochastic depth; batch norm is always in eval mode."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        StochasticDepth(0.5, "row"),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.LazyLinear(5),
    )
    model(torch.randn(2, *SHAPE))
    model.eval()
    assert Drive(model, {}, SHAPE).sites == ()
    for name in ("1", "2", "3"):
        model.get_submodule(name).train()
    with pytest.warns(PCGraphWarning, match=r"'2' \(StochasticDepth\), '3' \(Dropout\) in train mode"):
        drive = Drive(model, {}, SHAPE)
    assert [site.shape for site in drive.sites] == [(1, 1, 1), (4, 6, 6)]
    assert Drive(model.train(), {}, SHAPE).sites == ()


def test_the_models_own_generator_and_torchs_stay_as_they_are() -> None:
    model = Net(own_stream).eval()
    before, own = torch.get_rng_state(), model.stream.get_state()
    built = pcg.build(pcg.parse_spec(SPEC), model=model)
    pcg.Scheduler(built).run(torch.randn(1, *SHAPE, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.stream.get_state(), own)


def flattened(net: nn.Module, x: Tensor) -> Tensor:
    """(time, batch) as one dimension: an image's numbers are not next to each other."""
    steps = x.flatten(2).permute(2, 0, 1)
    return F.dropout(steps.flatten(0, 1), 0.3, training=True).view_as(steps).permute(1, 2, 0).view_as(x)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net, x: x + torch.poisson(x.relu()), r"'poisson' in Net, which cannot be drawn"),
        (lambda net, x: F.rrelu(x, training=True), r"'rrelu' in Net, which cannot be drawn"),
        (lambda net, x: 2 * x if torch.rand(1).item() < 0.5 else x, r"'rand' in .*: Net cannot be traced"),
        (lambda net, x: x[torch.randperm(x.shape[0])], "'randperm' in Net, which mixes images"),
        (lambda net, x: x * random.random(), "'random' in Net, which draws outside torch"),
        (lambda net, x: 2 * x if np.random.rand() < 0.5 else x, "'random' in Net, which draws outside torch"),
        (flattened, "what it draws for one image depends on the others"),
    ],
)
def test_what_cannot_be_drawn_image_by_image_is_refused_by_name(change: Change, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Drive(Net(change), {}, SHAPE)


def test_without_verification_random_models_are_read_alike() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PCGraphWarning)
        drive = Drive(Net(KINDS["noise"]), {}, SHAPE, verify=False)
    assert [site.kind for site in drive.sites] == ["normal"]


def test_wrong_places_are_refused() -> None:
    built = network(KINDS["noise"])
    for places in ([0], [0, -1]):
        with pytest.raises(pcg.InputError, match="places: expected 2 numbers"):
            pcg.Scheduler(built).run(torch.randn(2, *SHAPE), places=places)


def test_energy_learning_refuses_a_random_backbone() -> None:
    from pcgraph.learning import weight_gradients

    spec = {**SPEC, "dynamics": {"rule": "energy", "rate": 0.1}}
    built = pcg.build(pcg.parse_spec(spec), model=Net(KINDS["noise"]))
    with pytest.raises(pcg.InputError, match="the backbone is random in eval mode"):
        weight_gradients(built, {"input": torch.randn(1, *SHAPE)})
