"""Layouts from the operations of a model: what its dimensions are, whatever their sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision import transforms

from pcgraph.predictors.automatic import FromMap, ToMap
from pcgraph.spec.layout import Layout
from pcgraph.tracing.axes import SHARED, Dim, agreed, axis, meaning
from pcgraph.tracing.drive import Drive


class Steps(nn.Module):
    """Modules and functions one after the other; the k-th function makes the value ``here`` of module k."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self.steps = nn.ModuleList(step if isinstance(step, nn.Module) else Call(step) for step in steps)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Call(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x)
        return result


class Recurrent(nn.Module):
    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.gru(x)[0]
        return result


def found(shape: tuple[int, ...], *steps: Any) -> list[Layout | None]:
    """The layout of the input, and of what each step makes."""
    model = Steps(*steps)
    drive = Drive(model, {f"s{k}": f"steps.{k}" for k in range(len(steps))}, shape)
    layouts = drive.layouts()
    return [layouts["input"], *(layouts[f"s{k}"] for k in range(len(steps)))]


def first(*shape: int) -> Layout:
    return Layout(shape, 0)


def last(*shape: int) -> Layout:
    return Layout(shape, len(shape) - 1)


def conv2d(i: int, o: int, **more: Any) -> nn.Module:
    return nn.Conv2d(i, o, 3, padding=1, **more)


def conv1d(i: int, o: int) -> nn.Module:
    return nn.Conv1d(i, o, 3, padding=1)


class Deformed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shifts = nn.Conv2d(3, 18, 3, padding=1)
        self.map = torchvision.ops.DeformConv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.map(x, self.shifts(x))
        return y


def rectified(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x


def mixed_up(x: Tensor) -> Tensor:
    made = torch.empty_like(x)
    made[:, :, torch.tensor([3, 1, 7, 5, 2, 0, 4, 6])] = x
    return made


CASES = {
    "an image that is padded before it is read": (
        (3, 8, 8),
        [lambda x: F.pad(x, (0, 1, 0, 1)), conv2d(3, 4)],
        [first(3, 8, 8), first(3, 9, 9), first(4, 9, 9)],
    ),
    "an image of which every second pixel is read": (
        (8, 3, 8),
        [lambda x: x[:, ::2, :, 1:].transpose(1, 2), conv2d(3, 4)],
        [Layout((8, 3, 8), 1), first(3, 4, 7), first(4, 4, 7)],
    ),
    "a map with as many channels as rows": (
        (1, 16, 25),
        [conv2d(1, 16), nn.ReLU()],
        [first(1, 16, 25), first(16, 16, 25), first(16, 16, 25)],
    ),
    "the same numbers, channels last": (
        (25, 16, 16),
        [conv2d(25, 25), lambda x: x.permute(0, 2, 3, 1), nn.Linear(25, 25), nn.GELU()],
        [first(25, 16, 16), first(25, 16, 16), last(16, 16, 25), last(16, 16, 25), last(16, 16, 25)],
    ),
    "a cube, channels first and last": (
        (8, 8, 8),
        [conv2d(8, 8), lambda x: x.movedim(1, -1), nn.LayerNorm(8)],
        [first(8, 8, 8), first(8, 8, 8), last(8, 8, 8), last(8, 8, 8)],
    ),
    "an image that comes with its channels last": (
        (12, 12, 3),
        [lambda x: x.permute(0, 3, 1, 2), conv2d(3, 5)],
        [last(12, 12, 3), first(3, 12, 12), first(5, 12, 12)],
    ),
    "coordinates beside the channels": (
        (3, 8, 8),
        [lambda x: torch.cat([x, torch.linspace(-1, 1, 8).expand(len(x), 2, 8, 8)], 1), conv2d(5, 8)],
        [first(3, 8, 8), first(5, 8, 8), first(8, 8, 8)],
    ),
    "blocks of a map": (
        (8, 8, 12),
        [lambda x: F.unfold(x, 4, stride=4).mT, nn.Linear(128, 8)],
        [first(8, 8, 12), Layout((2, 3, 128), 2), Layout((2, 3, 8), 2)],
    ),
    "blocks that overlap, and a class token": (
        (3, 8, 8),
        [
            conv2d(3, 9),
            lambda x: F.unfold(x, 3, padding=1, stride=2).mT,
            nn.Linear(81, 16),
            lambda x: torch.cat([torch.zeros(len(x), 1, 16), x], 1),
        ],
        [
            first(3, 8, 8),
            first(9, 8, 8),
            Layout((4, 4, 81), 2),
            Layout((4, 4, 16), 2),
            Layout((4, 4, 16), 2, 1),
        ],
    ),
    "an image that is turned before it is read": (
        (8, 8, 8),
        [
            lambda x: F.grid_sample(
                x,
                F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), (len(x), 8, 6, 9), False),
                align_corners=False,
            ),
            conv2d(8, 4),
        ],
        [first(8, 8, 8), first(8, 6, 9), first(4, 6, 9)],
    ),
    "a sequence whose spectra are read as pictures": (
        (1, 256),
        [
            lambda x: torch.stft(x[:, 0], 30, 16, window=torch.ones(30), return_complex=True).abs()[:, None],
            conv2d(1, 4),
        ],
        [Layout((1, 256), None), first(1, 16, 17), first(4, 16, 17)],
    ),
    "numbers that are checked on the way": (
        (8, 8, 8),
        [conv2d(8, 3), transforms.Normalize((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)), Deformed()],
        [first(8, 8, 8), first(3, 8, 8), first(3, 8, 8), first(4, 8, 8)],
    ),
    "values that a mask sets": (
        (8, 8, 8),
        [conv2d(8, 8), rectified],
        [first(8, 8, 8), first(8, 8, 8), first(8, 8, 8)],
    ),
    "values that a list of places sets": (
        (8, 8, 8),
        [conv2d(8, 8), mixed_up],
        [first(8, 8, 8), first(8, 8, 8), None],
    ),
    "as many channels as times": (
        (16, 16),
        [conv1d(16, 16), nn.BatchNorm1d(16), nn.MaxPool1d(2)],
        [first(16, 16), first(16, 16), first(16, 16), first(16, 8)],
    ),
    "time first": (
        (16, 16),
        [lambda x: x.transpose(1, 2), conv1d(16, 16), lambda x: x.transpose(1, 2)],
        [last(16, 16), first(16, 16), first(16, 16), last(16, 16)],
    ),
    "a sound without a dimension of channels": (
        (100,),
        [lambda x: x.unsqueeze(1), conv1d(1, 4)],
        [Layout((100,), None), first(1, 100), first(4, 100)],
    ),
    "a spectrogram without a dimension of channels": (
        (20, 30),
        [lambda x: x[:, None], conv2d(1, 4)],
        [Layout((20, 30), None), first(1, 20, 30), first(4, 20, 30)],
    ),
    "a cubic video": (
        (4, 4, 4, 4),
        [nn.Conv3d(4, 4, 3, padding=1), nn.AdaptiveAvgPool3d(2), lambda x: x.permute(0, 2, 3, 4, 1)],
        [first(4, 4, 4, 4), first(4, 4, 4, 4), first(4, 2, 2, 2), last(2, 2, 2, 4)],
    ),
    "tokens whose number is that of their features": (
        (3, 8, 8),
        [nn.Conv2d(3, 16, 2, 2), lambda x: x.flatten(2).transpose(1, 2), nn.LayerNorm(16), nn.Linear(16, 16)],
        [first(3, 8, 8), first(16, 4, 4), *[Layout((4, 4, 16), 2)] * 3],
    ),
    "tokens of a grid that is no square": (
        (3, 4, 18),
        [nn.Conv2d(3, 5, 2, 2), lambda x: x.flatten(2), lambda x: x.transpose(1, 2)],
        [first(3, 4, 18), first(5, 2, 9), Layout((5, 2, 9), 0), Layout((2, 9, 5), 2)],
    ),
    "a flat map is a map": (
        (3, 6, 6),
        [conv2d(3, 4), nn.Flatten(), nn.Linear(144, 9)],
        [first(3, 6, 6), first(4, 6, 6), first(4, 6, 6), first(9)],
    ),
    "a mean over places is a vector": (
        (2, 6, 6),
        [conv2d(2, 6), lambda x: x.mean((2, 3)), nn.Linear(6, 6)],
        [first(2, 6, 6), first(6, 6, 6), first(6), first(6)],
    ),
    "one place is a map of one place": (
        (2, 6, 6),
        [conv2d(2, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        [first(2, 6, 6), first(6, 6, 6), first(6, 1, 1), first(6)],
    ),
    "an image that only a linear layer reads": (
        (1, 5, 7),
        [nn.Flatten(), nn.Linear(35, 4), nn.ReLU()],
        [
            first(1, 5, 7),
            Layout((5, 7), None),
            first(4),
            first(4),
        ],  # its one channel is no part of the flat one
    ),
    "a generator": (
        (10,),
        [nn.Linear(10, 8 * 9), lambda x: x.view(-1, 8, 3, 3), nn.ConvTranspose2d(8, 3, 4, 2, 1)],
        [first(10), first(8, 3, 3), first(8, 3, 3), first(3, 6, 6)],
    ),
    "pixels out of channels": (
        (3, 5, 5),
        [conv2d(3, 8), nn.PixelShuffle(2), conv2d(2, 4)],
        [first(3, 5, 5), first(8, 5, 5), first(2, 10, 10), first(4, 10, 10)],
    ),
    "channels out of pixels, by hand": (
        (2, 6, 8),
        [
            conv2d(2, 4),
            lambda x: x.reshape(-1, 4, 3, 2, 4, 2).permute(0, 2, 4, 3, 5, 1).flatten(3),
            nn.Linear(16, 8),
        ],
        [first(2, 6, 8), first(4, 6, 8), last(3, 4, 16), last(3, 4, 8)],
    ),
    "windows there and back": (
        (3, 8, 8),
        [
            conv2d(3, 5),
            lambda x: x.reshape(-1, 5, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 5) * 2.0,
        ],
        [first(3, 8, 8), first(5, 8, 8)],
    ),
    "frequencies joined with channels": (
        (1, 6, 9),
        [conv2d(1, 4), lambda x: x.permute(0, 3, 1, 2).flatten(2), Recurrent(24, 7)],
        [first(1, 6, 9), first(4, 6, 9), last(9, 24), last(9, 7)],
    ),
    "rows of which nobody says the order": (
        (9, 6),
        [nn.Linear(6, 5), nn.ReLU()],
        [Layout((9, 6), 1, ordered=False, rows=0)] + [Layout((9, 5), 1, ordered=False, rows=0)] * 2,
    ),
    "a matrix that mixes all of it": ((9, 6), [nn.Flatten(), nn.Linear(54, 5)], [None, first(54), first(5)]),
    "two readers that disagree": (
        (9, 9),
        [lambda x: F.conv1d(x, torch.ones(4, 9, 3)).mean(2) + F.conv1d(x.mT, torch.ones(4, 9, 3)).mean(2)],
        [None, first(4)],
    ),
    "places in another order": (
        (3, 8, 8),
        [conv2d(3, 5), lambda x: x.flip(2), lambda x: x.transpose(2, 3)],
        [first(3, 8, 8), first(5, 8, 8), None, None],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_layout(case: str) -> None:
    shape, steps, expected = CASES[case]
    got = found(shape, *steps[: len(expected) - 1])
    assert [one and replace(one, rows=None if one.rows is None else 0) for one in got] == expected


class Transformer(nn.Module):
    """Patches, class tokens, attention written out, and a head that reads the class token."""

    def __init__(self, before: int = 1, after: int = 0, position: bool = True, reads: str = "token") -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.front = nn.Parameter(torch.zeros(1, before, 8))
        self.back = nn.Parameter(torch.zeros(1, after, 8))
        self.position = nn.Parameter(torch.zeros(1, before + 8 + after, 8)) if position else None
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.mix = nn.Linear(8, 8)
        self.block = nn.Identity()
        self.rest = nn.Identity()
        self.before, self.reads = before, reads
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        n = x.shape[0]
        x = torch.cat([self.front.expand(n, -1, -1), x, self.back.expand(n, -1, -1)], 1)
        if self.position is not None:
            x = x + self.position
        q, k, v = self.qkv(self.norm(x)).reshape(n, -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        attended = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        x = self.block(x + self.mix(attended.transpose(1, 2).reshape(n, -1, 8)))
        rest = self.rest(x[:, self.before : self.before + 8])
        return self.head(x[:, 0] if self.reads == "token" else rest.mean(1))


@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 0), (2, 0), (1, 4), (0, 1)])
def test_class_tokens_are_counted_and_the_grid_is_that_of_the_patches(before: int, after: int) -> None:
    drive = Drive(Transformer(before, after), {"block": "block", "rest": "rest"}, (3, 8, 16))
    layouts = drive.layouts()
    assert layouts["block"] == Layout((2, 4, 8), 2, before, after)
    assert layouts["rest"] == Layout((2, 4, 8), 2)


def test_rows_are_told_apart() -> None:
    class Latents(nn.Module):
        """As many learned queries as rows, which are not the same places."""

        def __init__(self) -> None:
            super().__init__()
            self.queries = nn.Parameter(torch.randn(1, 6, 4))
            self.key, self.value, self.rows = nn.Linear(4, 4), nn.Linear(4, 4), nn.Identity()
            self.latents, self.refined = nn.Identity(), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.rows(x)
            queries = self.queries.expand(x.shape[0], -1, -1)
            latents = self.latents(F.scaled_dot_product_attention(queries, self.key(x), self.value(x)))
            result: Tensor = self.refined(latents)
            return result

    drive = Drive(Latents(), {"a": "rows", "b": "latents", "c": "refined"}, (6, 4))
    found = drive.layouts()
    rows = {name: layout.rows for name, layout in found.items() if layout is not None}
    assert rows["a"] == rows["input"] is not None
    assert rows["b"] == rows["c"] is not None
    assert rows["a"] != rows["b"]


def in_blocks(x: Tensor) -> Tensor:
    """(batch, channels, 2 x 8, 2 x 8) as (batch, 2, 2, channels, 8, 8)."""
    return x.reshape(-1, x.shape[1], 2, 8, 2, 8).permute(0, 2, 4, 1, 3, 5)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: F.linear(in_blocks(x), torch.ones(8, 8)).mT.flatten(3),
        lambda x: F.linear(in_blocks(x).mT, torch.ones(5, 8)).flatten(3),
        lambda x: torch.matmul(torch.ones(8, 8), in_blocks(x)).sum((3, 4)),
    ],
)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 16)])
def test_an_image_that_is_read_in_blocks_is_an_image(shape: tuple[int, ...], read: Any) -> None:
    """As by a cosine transform of each block, whose columns are features of the block."""
    assert found(shape, read)[0] == first(*shape)


@pytest.mark.parametrize(
    "unclear",
    [
        (*axis(2, "place", 0, SHARED), *axis(4, "mixed", 0, SHARED)),
        axis(8, "mixed", 0, SHARED),
        (*axis(4, "place", 0, SHARED), *axis(2, "place", 1, SHARED), *axis(1, "mixed", 0, SHARED)),
    ],
)
def test_beside_a_place_what_means_several_things_says_nothing(unclear: Dim) -> None:
    """As attention within blocks beside a shortcut; what two clear tensors contradict stays mixed."""
    place, features = axis(8, "place", 0, SHARED), axis(8, "features", 0, SHARED)
    assert agreed([unclear, place], 8) == agreed([place, unclear], 8) == place
    assert meaning(agreed([place, features], 8))[1] == meaning(agreed([features, place], 8))[1] == "mixed"


@pytest.mark.heavy
def test_maps_of_attention_within_overlapping_blocks() -> None:
    timm = pytest.importorskip("timm")
    drive = Drive(
        timm.create_model("halonet26t").eval(), {"e": "stages.3.1.act"}, (3, 256, 256), verify=False
    )
    assert drive.layouts()["e"] == first(2048, 8, 8)


def unrolled(rounds: int) -> Any:
    """Each round puts the places of blocks of 2 x 2 before all that follows, as Hiera does it."""

    def unroll(x: Tensor) -> Tensor:
        x = x.movedim(1, -1)
        for _ in range(rounds):
            x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        size = 64 // 4**rounds
        return x.reshape(-1, 4**rounds * size, x.shape[-1])

    return unroll


def windows(x: Tensor) -> Tensor:
    """(batch, channels, 2 x 4, 2 x 4) as tokens, one window after the other."""
    x = x.unflatten(3, (2, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 3, 5, 1)
    return x.flatten(1, 4)


def phases(x: Tensor) -> Tensor:
    """(batch, channels, 4 x 3) as (batch, 3 x 4, channels): every third time together."""
    return x.unflatten(2, (4, 3)).transpose(2, 3).flatten(2).mT


SCATTERED: dict[str, tuple[tuple[int, ...], Any, Any, Any]] = {
    "unrolled once": ((3, 8, 8), conv2d(3, 5), unrolled(1), lambda x: x),
    "unrolled three times": ((3, 8, 8), conv2d(3, 5), unrolled(3), lambda x: x),
    "unrolled, and the greatest of each block": (
        (3, 8, 8),
        conv2d(3, 5),
        lambda x: unrolled(2)(x).unflatten(1, (4, -1)).amax(1),
        lambda x: F.max_pool2d(x, 2),
    ),
    "windows": ((3, 8, 8), conv2d(3, 5), windows, lambda x: x),
    "columns first": ((3, 4, 6), conv2d(3, 5), lambda x: x.transpose(2, 3), lambda x: x),
    "columns first as tokens": ((3, 4, 6), conv2d(3, 5), lambda x: x.mT.flatten(2).mT, lambda x: x),
    "blocks beside each other": (
        (3, 4, 6),
        conv2d(3, 5),
        lambda x: x.unflatten(3, (3, 2)).unflatten(2, (2, 2)).permute(0, 1, 2, 4, 3, 5),
        lambda x: x,
    ),
    "every third time": ((2, 12), nn.Conv1d(2, 4, 3, padding=1), phases, lambda x: x),
    "a volume, depth last": (
        (1, 2, 4, 6),
        nn.Conv3d(1, 3, 3, padding=1),
        lambda x: x.permute(0, 3, 4, 2, 1),
        lambda x: x,
    ),
}


@pytest.mark.parametrize("kind", SCATTERED)
def test_places_in_another_order_are_put_in_order(kind: str) -> None:
    shape, layer, scatter, expected = SCATTERED[kind]
    torch.manual_seed(0)
    layout = found(shape, layer, scatter)[2]
    assert layout is not None
    x = torch.randn(2, *shape)
    state = scatter(layer(x)).detach()
    assert torch.equal(ToMap(tuple(state.shape[1:]), layout)(state), expected(layer(x)))
    assert torch.equal(FromMap(tuple(state.shape[1:]), layout)(expected(layer(x))), state)


@pytest.mark.parametrize(
    "scatter",
    [
        lambda x: windows(x).unflatten(1, (2, 2, 16)).amax(1),  # halves of the map on each other
        lambda x: unrolled(2)(x).unflatten(1, (4, 4, 4)).amax(2),
        lambda x: windows(x.flip(3)),
    ],
)
def test_places_that_are_no_grid_any_more_are_none(scatter: Any) -> None:
    assert found((3, 8, 8), conv2d(3, 5), scatter)[2] is None


@pytest.mark.parametrize(
    "part",
    [lambda x: x[:, 1:], lambda x: x[:, ::2], lambda x: F.pad(x, (0, 0, 0, 8)), lambda x: x.chunk(3, 1)[0]],
)
@pytest.mark.parametrize("tokens", [windows, lambda x: x.flatten(2).mT])
def test_a_part_of_a_flattened_grid_is_rows(tokens: Any, part: Any) -> None:
    layout = found((3, 8, 8), conv2d(3, 5), lambda x: part(tokens(x)))[2]
    assert layout is not None
    assert not layout.ordered
