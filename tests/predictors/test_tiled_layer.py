"""The layer that can be computed in tiles: gradients, weights that change, copies."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from pcgraph.acceleration import TiledConvTranspose2d

SHAPE = (2, 4, 7, 6)


def pair(dtype: torch.dtype = torch.float64) -> tuple[nn.ConvTranspose2d, TiledConvTranspose2d]:
    """A layer with constant weights, and the same computed in tiles."""
    plain = nn.ConvTranspose2d(4, 3, 6, stride=2, padding=2, dtype=dtype).requires_grad_(False)
    tiled = TiledConvTranspose2d.like(plain)
    tiled.choose({SHAPE: 8})
    return plain, tiled


def in_tiles(layer: TiledConvTranspose2d, x: Tensor) -> bool:
    """Whether ``x`` is computed in tiles: rounding shows it."""
    predicted = layer(x)
    direct = nn.ConvTranspose2d.forward(layer, x)
    torch.testing.assert_close(predicted, direct)
    return not torch.equal(predicted, direct)


def test_nothing_chosen_is_computed_directly_bit_for_bit() -> None:
    plain, _ = pair()
    x = torch.randn(SHAPE, dtype=torch.float64)
    assert torch.equal(TiledConvTranspose2d.like(plain)(x), plain(x))


def test_only_the_chosen_shape_is_computed_in_tiles() -> None:
    _, tiled = pair()
    assert in_tiles(tiled, torch.randn(SHAPE, dtype=torch.float64))
    assert not in_tiles(tiled, torch.randn(1, *SHAPE[1:], dtype=torch.float64))


def test_first_and_second_derivatives() -> None:
    _, tiled = pair()
    x = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    assert in_tiles(tiled, x)
    assert torch.autograd.gradcheck(tiled, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: tiled(x) ** 2, x, fast_mode=True)


def test_functional_vector_jacobian_product() -> None:
    plain, tiled = pair()
    x = torch.randn(SHAPE, dtype=torch.float64)
    expected, expected_pull = torch.func.vjp(plain, x)
    got, got_pull = torch.func.vjp(tiled, x)
    cotangent = torch.randn_like(expected)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got_pull(cotangent), expected_pull(cotangent))


def test_training_is_direct() -> None:
    plain, tiled = pair()
    x = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    plain.requires_grad_(True)  # the parameters are those of both
    gradients = [
        torch.autograd.grad(layer(x).square().sum(), (x, layer.weight, layer.bias))
        for layer in (plain, tiled)
    ]
    for expected, got in zip(*gradients, strict=True):
        assert torch.equal(got, expected)


def test_the_bias_can_learn_alone() -> None:
    plain, tiled = pair()
    assert tiled.bias is not None
    tiled.bias.requires_grad_(True)
    x = torch.randn(SHAPE, dtype=torch.float64)
    assert in_tiles(tiled, x)
    (expected,) = torch.autograd.grad(plain(x).square().sum(), plain.bias)
    (got,) = torch.autograd.grad(tiled(x).square().sum(), tiled.bias)
    torch.testing.assert_close(got, expected)


def changes() -> dict[str, object]:
    """Ways in which weights change."""
    other = torch.randn(4, 3, 6, 6, dtype=torch.float64)

    def learn(layer: nn.Module) -> None:
        layer.weight.requires_grad_(True)
        layer(torch.randn(SHAPE, dtype=torch.float64)).sum().backward()
        torch.optim.SGD(layer.parameters(), 0.1).step()
        layer.requires_grad_(False)

    def replace(layer: nn.Module) -> None:
        layer.weight.data = other.clone()

    def replace_twice(layer: nn.Module) -> None:
        layer.weight.data = other.clone()
        layer.weight.data = other * 2

    def set_parameter(layer: nn.Module) -> None:
        layer.weight = nn.Parameter(other.clone(), requires_grad=False)

    return {
        "in place": lambda layer: layer.weight.mul_(2),
        "one value": lambda layer: layer.weight[0, 0, 0].fill_(3),
        "loaded": lambda layer: layer.load_state_dict({**layer.state_dict(), "weight": other}),
        "learned": learn,
        "replaced": replace,
        "replaced twice": replace_twice,
        "another parameter": set_parameter,
    }


@pytest.mark.parametrize("name", changes())
def test_changed_weights_change_the_result(name: str) -> None:
    _, tiled = pair()
    x = torch.randn(SHAPE, dtype=torch.float64)
    before = tiled(x)
    changes()[name](tiled)
    assert in_tiles(tiled, x)
    assert not torch.allclose(tiled(x), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_moved_weights(dtype: torch.dtype) -> None:
    plain, tiled = pair()
    tiled(torch.randn(SHAPE, dtype=torch.float64))
    tiled.to(dtype)
    x = torch.randn(SHAPE, dtype=dtype)
    got = tiled(x)
    assert got.dtype == dtype
    expected = plain.double()(x.double())
    assert (got - expected).abs().max() <= {torch.bfloat16: 0.01}.get(dtype, 2e-5) * expected.abs().max()


def test_inference_mode_before_and_after() -> None:
    _, tiled = pair()
    x = torch.randn(SHAPE, dtype=torch.float64)
    with torch.inference_mode():
        tiled.weight.requires_grad_(False)
        assert in_tiles(tiled, torch.randn(SHAPE, dtype=torch.float64))
    leaf = x.requires_grad_()
    torch.autograd.grad(tiled(leaf).sum(), leaf)


def test_autocast_leaves_the_tiles_in_float32() -> None:
    plain, tiled = pair(torch.float32)
    x = torch.randn(SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        got = tiled(x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, plain(x), atol=1e-4, rtol=1e-4)


def test_the_state_dict_is_that_of_the_plain_layer() -> None:
    plain, tiled = pair()
    assert list(tiled.state_dict()) == list(plain.state_dict())
    restored = nn.ConvTranspose2d(4, 3, 6, stride=2, padding=2, dtype=torch.float64)
    restored.load_state_dict(load(save(tiled.state_dict())))
    x = torch.randn(SHAPE, dtype=torch.float64)
    assert torch.equal(restored(x), plain(x))


@pytest.mark.parametrize("method", ["deepcopy", "pickle", "save"])
def test_copies_have_the_choice_and_no_transformed_weights(method: str) -> None:
    _, tiled = pair()
    x = torch.randn(SHAPE, dtype=torch.float64)
    expected = tiled(x)
    size = len(pickle.dumps(tiled))
    assert size < 2 * sum(p.numel() * p.element_size() for p in tiled.parameters()) + 10_000
    if method == "deepcopy":
        other = copy.deepcopy(tiled)
    elif method == "pickle":
        other = pickle.loads(pickle.dumps(tiled))
    else:
        file = io.BytesIO()
        torch.save(tiled, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert torch.equal(other(x), expected)
    with torch.no_grad():
        other.weight.zero_()
    assert not torch.equal(other(x), expected)
    assert torch.equal(tiled(x), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 6, "groups": 2},
        {"kernel_size": 6, "dilation": 2},
        {"kernel_size": (6, 4)},
        {"kernel_size": 6, "stride": (2, 1)},
        {"kernel_size": 1},
        {"kernel_size": 12},
    ],
)
def test_other_layers_have_no_tiles(arguments: dict[str, object]) -> None:
    assert TiledConvTranspose2d(4, 4, **arguments).possible_tiles == ()


def test_a_compiled_layer_is_direct() -> None:
    plain, tiled = pair()
    x = torch.randn(SHAPE, dtype=torch.float64)
    compiled = torch.compile(tiled, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), plain(x))
