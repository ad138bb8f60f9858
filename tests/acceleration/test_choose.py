"""How the algorithms are chosen, and runs of networks that have chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import pcgraph as pcg
from pcgraph.acceleration import TiledConvTranspose2d, choose_convolutions
from tests.nets import chain

LAYERS = ["b->a.0", "c->b.0"]


def network(frozen: bool = True) -> pcg.PCNetwork:
    """Three nodes; the feedback is 4 x 4 with stride 1 and 6 x 6 with stride 2."""
    spec = pcg.parse_spec(
        {
            "name": "large-kernels",
            "nodes": {
                "a": {"shape": [4, 20, 20]},
                "b": {"shape": [6, 20, 20]},
                "c": {"shape": [8, 10, 10]},
                "d": {"shape": [5]},
            },
            "edges": [
                {
                    "source": "b",
                    "target": "a",
                    "predictor": [{"ConvTranspose2d": {"kernel_size": 5, "padding": 2}}, "Tanh"],
                },
                {
                    "source": "c",
                    "target": "b",
                    "predictor": [{"ConvTranspose2d": {"kernel_size": 6, "stride": 2, "padding": 2}}, "ReLU"],
                },
                {"source": "d", "target": "c", "predictor": ["Linear", {"Unflatten": {}}]},
            ],
            "dynamics": {"rule": "energy", "rate": 0.05},
            "schedule": {"order": "synchronous", "steps": 5, "initial": "zeros"},
        }
    )
    return pcg.build(spec).requires_grad_(not frozen)


@pytest.fixture
def tiles_are_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger tiles take less time: what is chosen does not hang on the machine."""

    def seconds(layer: TiledConvTranspose2d, x: Tensor, cotangent: Tensor) -> float:
        return 1.0 / max(layer.tiles.get(tuple(x.shape), 1), 1)

    monkeypatch.setattr("pcgraph.acceleration.measure._seconds", seconds)


def image() -> Tensor:
    return torch.randn(2, 4, 20, 20, generator=torch.Generator().manual_seed(3))


def run(network: pcg.PCNetwork, **how: object) -> dict[str, Tensor]:
    """The last states."""
    label = torch.ones(2, 5)
    return dict(pcg.Scheduler(network).run(image(), 5, clamp={"d": label}, **how).state.values)


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor], share: float = 1e-4) -> None:
    for node, value in expected.items():
        assert (got[node] - value).abs().max() <= share * value.abs().max(), node


def test_every_way_is_measured(tiles_are_fast: None) -> None:
    choices = choose_convolutions(network(), 2)
    assert [choice.layer for choice in choices.layers] == LAYERS
    for choice in choices.layers:
        assert [way.tile for way in choice.ways] == [None, 6, 8, 10, 11]
        assert choice.chosen.tile == 11
        assert all(0 < way.error < 1e-4 for way in choice.ways[1:])
        values = {"b->a.0": 6 * 4, "c->b.0": 8 * 6 * 4}[choice.layer]  # a tile has these many of each place
        assert [way.bytes for way in choice.ways] == [0, *(4 * tile**2 * values for tile in (6, 8, 10, 11))]
    assert choices.bytes == sum(choice.chosen.bytes for choice in choices.layers)
    assert choices.saved == pytest.approx(2 * (1 - 1 / 11))
    assert all(name in str(choices) for name in LAYERS)


def test_a_run_agrees_with_the_direct_one(tiles_are_fast: None) -> None:
    direct, tiled = network(), network()
    expected = run(direct)
    choose_convolutions(tiled, 2)
    got = run(tiled)
    assert_close(got, expected)
    assert not torch.equal(got["b"], expected["b"]), "no tiles were used"
    choose_convolutions(tiled, 2, memory=0)
    assert all(torch.equal(value, expected[node]) for node, value in run(tiled).items())


def test_a_backbone_run_agrees_with_the_direct_one(tiles_are_fast: None) -> None:
    spec = pcg.parse_spec(
        {
            "name": "chain",
            "backbone": {"model": "torchvision:vgg16", "weights": None, "input": [3, 16, 16]},
            "nodes": {"e1": {"module": "1"}, "e2": {"module": "3"}},
            "feedback": [
                {
                    "source": "e2",
                    "target": "e1",
                    "predictor": [{"ConvTranspose2d": {"kernel_size": 6, "padding": 2, "stride": 2}}, "ReLU"],
                },
                {"source": "e1", "target": "input"},
            ],
            "dynamics": {"rule": "predify", "error": 0.1},
        }
    )
    model = chain()
    network = pcg.build(spec, model=model).requires_grad_(False)
    images = torch.randn(2, 3, 16, 16)
    expected = pcg.Scheduler(network).run(images, 5)
    choose_convolutions(network, 2)
    got = pcg.Scheduler(network).run(images, 5)
    for one, other in zip(got.output, expected.output, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()
    assert not torch.equal(got.output[-1], expected.output[-1])


@pytest.mark.parametrize("differentiable", [True, "first_order"])
def test_a_differentiable_run_has_the_same_gradients(tiles_are_fast: None, differentiable: object) -> None:
    def gradient(network: pcg.PCNetwork) -> Tensor:
        label = torch.ones(2, 5, requires_grad=True)
        found = pcg.Scheduler(network).run(image(), 5, clamp={"d": label}, differentiable=differentiable)
        return torch.autograd.grad(found.state.values["b"].square().sum(), label)[0]

    direct, tiled = network(), network()
    choose_convolutions(tiled, 2)
    expected, got = gradient(direct), gradient(tiled)
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_training_after_a_choice_is_direct(tiles_are_fast: None) -> None:
    direct, tiled = network(), network()
    choose_convolutions(tiled, 2)
    expected, got = (
        run(n.requires_grad_(True), differentiable=True)["b"].square().sum() for n in (direct, tiled)
    )
    expected.backward()
    got.backward()
    for one, other in zip(tiled.parameters(), direct.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)


def test_weight_files_do_not_change(tiles_are_fast: None, tmp_path: Path) -> None:
    direct, tiled = network(), network()
    direct.save_weights(tmp_path / "direct")
    choose_convolutions(tiled, 2)
    tiled.save_weights(tmp_path / "tiled")
    assert (tmp_path / "direct").read_bytes() == (tmp_path / "tiled").read_bytes()
    for parameter in direct.parameters():
        parameter.mul_(0.5)
    direct.save_weights(tmp_path / "other")
    tiled.load_weights(tmp_path / "other")
    assert_close(run(tiled), run(direct))


@pytest.mark.parametrize(
    ("memory", "tiles"),
    [
        (121 * 4 * (24 + 192), [11, 11]),
        (121 * 4 * (24 + 192) - 1, [11, 10]),  # the cheapest loss a byte
        (121 * 4 * 24 + 36 * 4 * 192, [11, 6]),
        (36 * 4 * 24, [6, None]),
        (36 * 4 * 24 - 1, [None, None]),
    ],
)
def test_the_memory_limit_holds(tiles_are_fast: None, memory: float, tiles: list[int | None]) -> None:
    chosen = choose_convolutions(network(), 2, memory=memory)
    assert [choice.chosen.tile for choice in chosen.layers] == tiles
    assert chosen.bytes <= memory


def test_what_is_less_exact_than_the_tolerance_is_not_chosen(tiles_are_fast: None) -> None:
    every = choose_convolutions(network(), 2).layers
    tolerance = max(way.error for choice in every for way in choice.ways if way.tile == 6)
    chosen = choose_convolutions(network(), 2, tolerance=tolerance)
    assert [choice.chosen.tile for choice in chosen.layers] == [6, 6]


def test_nothing_is_chosen_where_tiles_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcgraph.acceleration.measure._seconds", lambda layer, *_: 1.0 + bool(layer.tiles))
    chosen = choose_convolutions(network(), 2)
    assert [choice.chosen.tile for choice in chosen.layers] == [None, None]
    assert chosen.bytes == 0
    assert chosen.saved == 0
    assert "paid off" not in str(chosen)


def test_measuring_takes_time_and_no_random_numbers() -> None:
    before = torch.get_rng_state()
    choices = choose_convolutions(network(), 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(way.seconds > 0 for choice in choices.layers for way in choice.ways)
    assert all(choice.chosen.seconds == min(way.seconds for way in choice.ways) for choice in choices.layers)
    assert choices.seconds > sum(way.seconds for choice in choices.layers for way in choice.ways)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: choose_convolutions(network(), 0), "batch=0; expected 1 or more"),
        (lambda: choose_convolutions(network(frozen=False), 2), "weight of 'b->a.0' requires a gradient"),
    ],
)
def test_faults(call: Callable[[], object], match: str) -> None:
    with pytest.raises(pcg.InputError, match=match):
        call()


def test_masked_layers_stay_as_they_are() -> None:
    masked = pcg.build(
        pcg.parse_spec(
            {
                "name": "masked",
                "nodes": {"a": {"shape": [4, 20, 20]}, "b": {"shape": [4, 20, 20]}},
                "edges": [
                    {
                        "source": "b",
                        "target": "a",
                        "predictor": [{"ConvTranspose2d": {"kernel_size": 5, "padding": 2}}],
                        "mask": {"density": 0.5},
                    }
                ],
                "dynamics": {"rule": "energy"},
            }
        )
    ).requires_grad_(False)
    assert choose_convolutions(masked, 1).layers == ()
    assert not any(isinstance(module, TiledConvTranspose2d) for module in masked.modules())
