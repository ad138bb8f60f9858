"""Models as people write them: what the drive computes is what the model computes, forth and back."""

from __future__ import annotations

import builtins
import copy
import keyword
import threading
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torchvision import transforms
from torchvision.transforms import v2

from pcgraph.errors import ModelError
from pcgraph.tracing import Drive, load_model, trace

from .test_drive import sweep

SHAPE = (3, 12, 12)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def rest(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(x).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.conv(x))


def heavy(kind: type[nn.Module]) -> Any:
    return pytest.param(kind, marks=pytest.mark.heavy)


def check(model: nn.Module, nodes: dict[str, str] | None = None, shape: tuple[int, ...] = SHAPE) -> Drive:
    """Output and input gradient of the drive against the model's own, for 1 and 3 images."""
    model = model.eval()
    nodes = {"e1": "conv"} if nodes is None else nodes
    drive = Drive(model, nodes, shape)
    assert drive.order == tuple(nodes)
    for count in (1, 3):
        image = torch.randn(count, *shape)
        with torch.no_grad():
            assert torch.equal(sweep(drive, image)["output"], reference(model)(image))
        ours, theirs = image.clone().requires_grad_(), image.clone().requires_grad_()
        expected = gradient(reference(model)(theirs), theirs)
        got = gradient(sweep(drive, ours, frozenset())["output"], ours)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    return drive


def reference(model: nn.Module) -> nn.Module:
    """The model, or a copy where it can be copied: some change while they run."""
    try:
        return copy.deepcopy(model)
    except Exception:
        return model


def gradient(output: Tensor, image: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    (found,) = torch.autograd.grad((output * weights).sum(), image, allow_unused=True)
    return torch.zeros_like(image) if found is None else found


# hooks, and a forward of the object's own ------------------------------------------------------------


def normalised_by_keyword(model: nn.Module) -> None:
    model.register_forward_pre_hook(lambda m, args, kwargs: ((args[0] / 3,), kwargs), with_kwargs=True)


def hooked_inside(model: nn.Module) -> None:
    model.get_submodule("conv").register_forward_hook(lambda m, given, out: out * 2)


def hooked_before_and_after(model: nn.Module) -> None:
    model.register_forward_pre_hook(lambda m, given: (given[0].clamp(-1, 1),))
    model.register_forward_hook(lambda m, given, out: out.log_softmax(1))
    model.get_submodule("head").register_forward_pre_hook(lambda m, given: (given[0] - 1,))


def hooked_on_the_way_back(model: nn.Module) -> None:
    model.get_submodule("conv").register_full_backward_hook(lambda m, given, out: (given[0] * 3,))


def wrapped_forward(model: Any) -> None:
    original = model.forward
    model.forward = lambda x: original(x).softmax(1)


def forward_of_a_part(model: Any) -> None:
    conv = model.conv
    conv.forward = types.MethodType(lambda self, x: F.conv2d(x, self.weight.abs(), padding=1), conv)


@pytest.mark.parametrize(
    "change",
    [
        normalised_by_keyword,
        hooked_inside,
        hooked_before_and_after,
        hooked_on_the_way_back,
        wrapped_forward,
        forward_of_a_part,
    ],
    ids=lambda change: change.__name__,
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_hooks_and_forwards_belong_to_the_model(change: Callable[[nn.Module], None]) -> None:
    model = Net()
    change(model)
    check(model)


def test_a_wrapped_forward_computes_with_the_copy() -> None:
    model: Any = Net().eval()
    wrapped_forward(model)
    drive = Drive(model, {"e1": "conv"}, SHAPE)
    image = torch.randn(2, *SHAPE)
    with torch.no_grad():
        expected = model(image)
        model.head.weight.zero_()
        assert torch.equal(sweep(drive, image)["output"], expected)


def test_hooks_that_look_see_tensors() -> None:
    seen: list[Any] = []
    model = Net().eval()
    for module in model.modules():
        module.register_forward_hook(lambda m, given, out: seen.append(out))
    model.register_forward_hook(lambda m, given, out: out + 1)
    drive = check(model)
    count = len(seen)
    assert all(type(value) is Tensor and value.abs().sum() >= 0 for value in seen)
    sweep(drive, torch.randn(2, *SHAPE))
    assert len(seen) == count


# blocks, buffers, functions with a backward ----------------------------------------------------------


class Remembers(Net):
    """Its forward reads what a hook has kept; without the hook there is nothing to read."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Tensor] = {}
        self.conv.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, given: Any, out: Tensor) -> None:
        self.kept["conv"] = out

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.conv(x)) + self.kept["conv"].mean((1, 2, 3))[:, None]


class Lesioned(Net):
    """A hook writes into the memory of a tensor, and torch does not count it as a change."""

    def __init__(self) -> None:
        super().__init__()

        def hook(module: nn.Module, given: Any, out: Tensor) -> None:
            out.data[:, ::2] = 0

        self.conv.register_forward_hook(hook)


class SetElsewhere(Net):
    """A hook that holds a list of the model's."""

    def __init__(self) -> None:
        super().__init__()
        gains = self.gains = [torch.zeros(())]

        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            gains.append(given[0].mean((1, 2, 3))[:, None])

        self.conv.register_forward_pre_hook(hook)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.conv(x)) * self.gains[-1]


@pytest.mark.parametrize("kind", [Remembers, Lesioned, SetElsewhere])
def test_hooks_without_which_the_model_is_another_stay(kind: type[nn.Module]) -> None:
    seen: list[Any] = []
    model = kind()
    model.head.register_forward_hook(lambda m, given, out: seen.append(out.detach().numpy()))  # type: ignore[union-attr]
    image = torch.randn(2, *SHAPE)
    drive = Drive(model.eval(), {"e1": "conv"}, SHAPE)
    assert seen
    assert torch.equal(sweep(drive, image)["output"], model(image))


class NoGradient(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        with torch.no_grad():
            gate = torch.sigmoid(x)
        return self.rest(x * gate)


class NoGradientFunction(Net):
    @staticmethod
    @torch.no_grad()
    def scale(x: Tensor) -> Tensor:
        return x.abs().amax((1, 2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.rest(x / self.scale(x))


class NoGradientWithShapes(Net):
    def forward(self, x: Tensor) -> Tensor:
        if int(x.shape[-1]) < 4:
            raise ValueError("too small")
        x = self.conv(x)
        with torch.no_grad():
            gate = torch.sigmoid(x).mean((2, 3), keepdim=True)
        return self.rest(x * gate)


class LowPrecision(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            x = self.conv(x).relu()
        return self.rest(x.float())


class OnlyTheHeadLow(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x)).mean((2, 3))
        with torch.autocast("cpu", torch.bfloat16):
            return self.head(x).float()


class WrittenBuffer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        self.scale.copy_(x.abs().mean())
        return self.rest(self.conv(x / self.scale))


class ReplacedBuffer(WrittenBuffer):
    def forward(self, x: Tensor) -> Tensor:
        self.scale = x.detach().abs().mean().view(1)
        return self.rest(self.conv(x / self.scale))


class CountedBuffer(WrittenBuffer):
    def forward(self, x: Tensor) -> Tensor:
        self.scale += 1
        return self.rest(self.conv(x * self.scale))


class Rounded(torch.autograd.Function):
    """Rounds, and lets the gradient pass as if it had not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Tensor:  # type: ignore[override]
        return given


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Any:  # type: ignore[override]
        return -ctx.factor * given, None


class StraightThrough(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.rest(Rounded.apply(self.conv(x)))


class GradientReversal(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.rest(Reversed.apply(self.conv(x), 0.5))


class Checkpointed(Net):
    def forward(self, x: Tensor) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        if x.requires_grad:
            return self.rest(checkpoint(self.conv, x, use_reentrant=False))
        return self.rest(self.conv(x))


BLOCKS = [
    NoGradient,
    NoGradientFunction,
    NoGradientWithShapes,
    LowPrecision,
    OnlyTheHeadLow,
    WrittenBuffer,
    ReplacedBuffer,
    CountedBuffer,
    StraightThrough,
    GradientReversal,
    Checkpointed,
]


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_blocks_buffers_and_backwards(kind: type[nn.Module]) -> None:
    check(kind())


# modules that change, and that are made on the way ---------------------------------------------------


class Dilating(Net):
    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for step in (1, 2, 3):
            self.again.dilation = self.again.padding = (step, step)
            x = x + torch.relu(self.again(x))
        return self.rest(x)


class SlopeChanging(Net):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        self.act.negative_slope = 0.5
        x = self.act(x - 1)
        self.act.negative_slope = 0.1
        return self.rest(x)


class PoolChanging(Net):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        self.pool.output_size = 6
        high = self.pool(x)
        self.pool.output_size = 3
        return self.rest(high.repeat_interleave(2, 2)[..., :3, :3] + self.pool(x))


class MadeOnTheWay(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = nn.Sequential(nn.AvgPool2d(2), nn.Hardtanh())(self.conv(x))
        return nn.LogSoftmax(dim=1)(self.rest(x))


class PlainDict(Net):
    def __init__(self) -> None:
        super().__init__()
        self.more = {"one": nn.Conv2d(8, 8, 1), "two": nn.Linear(5, 4)}

    def forward(self, x: Tensor) -> Tensor:
        return self.more["two"](self.rest(self.more["one"](self.conv(x))))


class Sliced(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        low = self.layers[:1](self.conv(x))
        return self.rest(low + self.layers[-2:](low))


class Swapped(Net):
    def forward(self, x: Tensor) -> Tensor:
        head, self.head = self.head, nn.Identity()
        x = self.rest(self.conv(x))
        self.head = head
        return self.head(x)


CHANGING = [Dilating, SlopeChanging, PoolChanging, MadeOnTheWay, PlainDict, Sliced, Swapped]


@pytest.mark.parametrize("kind", CHANGING, ids=lambda kind: kind.__name__)
def test_modules_that_change_or_are_made_on_the_way(kind: type[nn.Module]) -> None:
    check(kind())


# sizes and types -------------------------------------------------------------------------------------


class Checks(Net):
    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if channels != 3 or x.dim() != 4:
            raise ValueError("expected RGB")
        assert height == width
        return self.rest(self.conv(x)).view(batch, -1)


class Halving(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        while min(x.shape[-2:]) > 3:
            x = F.max_pool2d(x, 2)
        return self.rest(x)


class ByColumns(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.rest(torch.stack([x[..., i] * i for i in range(x.size(3))], 3))


class AsksForType(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        position = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
        return self.rest(x + torch.finfo(x.dtype).eps * position)


class DistributionOf(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.rest(torch.distributions.Normal(x, 1.0 + x**2).log_prob(torch.zeros_like(x)))


class PadsToMultiple(Net):
    def forward(self, x: Tensor) -> Tensor:
        right = -x.shape[-1] % 8
        return self.rest(self.conv(F.pad(x, (0, right, 0, right)) if right else x))


class ChecksNumbers(Net):
    def forward(self, x: Tensor) -> Tensor:
        scale = torch.tensor([0.2, 0.3, 0.4])
        if (scale <= 0).any():
            raise ValueError
        return self.rest(self.conv(x / scale[:, None, None]))


class Normalised(Net):
    def __init__(self) -> None:
        super().__init__()
        self.normalize = transforms.Normalize((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
        self.crop = v2.Compose([v2.Resize((14, 14), antialias=True), v2.CenterCrop(12)])

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.conv(self.crop(self.normalize(x))))


class InPlaceView(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x[:, :2].mul_(2)
        x.view(-1).add_(0.5)
        return self.rest(x)


SIZES = [
    Checks,
    Halving,
    ByColumns,
    AsksForType,
    DistributionOf,
    PadsToMultiple,
    ChecksNumbers,
    Normalised,
    InPlaceView,
]


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.__name__)
def test_sizes_and_types(kind: type[nn.Module]) -> None:
    check(kind())


class PartOfIt(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).clone()
        x[:, :2] *= 2
        x[..., 0].fill_(1.0)
        return self.rest(x)


class Copies(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = torch.zeros(x.shape, dtype=torch.float64)
        y[:, :4].copy_(x[:, 4:])
        y[:, 4:].copy_(x.mean(1, keepdim=True))
        return self.rest(y.float())


class OneAfterTheOther(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        both = x.clone()
        first, second = both[:, :4], both[:, 4:]
        first[:, 1].zero_()
        first[:, :1].copy_(second[:, 1:2])
        second.add_(first)
        return self.rest(both)


class TurnedView(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        turned = x.mT
        turned += 1
        return self.rest(x)


class Lost(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.rest(x + x.detach().requires_grad_(False) + 2 * x.data)


@pytest.mark.parametrize("kind", [heavy(PartOfIt), heavy(OneAfterTheOther), heavy(Copies), TurnedView, Lost])
def test_changes_of_a_part_of_a_tensor(kind: type[nn.Module]) -> None:
    check(kind())


@pytest.mark.parametrize("drop", [torch.squeeze, lambda x: x.squeeze(0), lambda x: x.mean(1).squeeze()])
def test_an_output_without_its_one_image_is_refused(drop: Callable[[Tensor], Tensor]) -> None:
    class Dropped(Net):
        def forward(self, x: Tensor) -> Tensor:
            return drop(super().forward(x))

    with pytest.raises(ModelError, match=r"for two images, and \((5,)?\) for one") as caught:
        Drive(Dropped(), {}, SHAPE)
    assert "flatten(1)" in caught.value.faults[0].hint


@pytest.mark.parametrize(
    ("mix", "mixes"),
    [
        (lambda x: F.batch_norm(x, None, None, training=True), True),
        (lambda x: x.softmax(0), True),
        (lambda x: x / x.abs().max(), True),
        (lambda x: x - x.mean((0, 2, 3), keepdim=True), True),
        (lambda x: x.softmax(1) / x.abs().amax((1, 2, 3), keepdim=True), False),
        (lambda x: F.group_norm(x, 2), False),
    ],
)
def test_that_images_of_a_batch_are_mixed_is_said(mix: Callable[[Tensor], Tensor], mixes: bool) -> None:
    class Mixes(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.rest(mix(self.conv(x)))

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check(Mixes())
    assert any("depends on the other images of its batch" in str(one.message) for one in said) == mixes


def rows_of(x: Tensor) -> Tensor:
    return x.reshape(len(x), len(x[0]), -1)


class CountsImages(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = rows_of(self.conv(x))
        return self.head(x.view(len(x), 8, -1).mean(len(x.shape) - 1))


class MadePerImage(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        made = torch.arange(8.0).repeat(len(x), 1)
        return self.head(
            torch.cat([x.mean((2, 3))[:, : len([1, 2])], made[:, 2:]], 1) * torch.ones(len(x), 1)
        )


class FoldedImages(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).transpose(0, 1)
        x = x.reshape(len(x), -1, 12, 12).transpose(0, 1)
        return self.rest(x) + torch.zeros(len(x), 5)


@pytest.mark.parametrize("kind", [CountsImages, heavy(MadePerImage), FoldedImages])
def test_how_many_images_there_are_stays_open(kind: type[nn.Module]) -> None:
    check(kind())
    assert builtins.len([1]) == 1
    assert isinstance(builtins.len, types.BuiltinFunctionType)


@pytest.mark.heavy
def test_a_loop_over_images_is_refused() -> None:
    class Loops(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([super(Loops, self).forward(x[i : i + 1])[0] for i in range(len(x))])

    with pytest.raises(ModelError, match="cannot be traced"):
        Drive(Loops(), {}, SHAPE)
    assert isinstance(builtins.len, types.BuiltinFunctionType)


@pytest.mark.heavy
def test_a_sequence_in_double_precision_beside_constants() -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv1d(2, 6, 5, 2, 2), nn.BatchNorm1d(6)
            self.gru, self.head = nn.GRU(6, 7, batch_first=True, bidirectional=True), nn.Linear(14, 3)

        def forward(self, x: Tensor, scale: float, shift: float = 0.0) -> Any:
            x = F.gelu(self.norm(self.conv(x))) * scale + shift
            over_time, _ = self.gru(x.transpose(1, 2))
            return {"states": over_time, "scores": (x, {"last": self.head(over_time[:, -1])})}

    model = Sequences().double().eval().requires_grad_(False)  # torch adds up otherwise where weights learn
    drive = Drive(model, {"e1": "conv"}, (2, 64), constants={"scale": 1.5})
    image = torch.randn(3, 2, 64, dtype=torch.float64)
    assert torch.equal(sweep(drive, image)["output"], model(image, 1.5)["scores"][1]["last"])


def test_one_channel_becomes_three() -> None:
    class Grey(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.conv(x.expand(-1, 3, -1, -1) if x.size(1) == 1 else x))

    check(Grey(), shape=(1, 12, 12))


# words of Python ------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", [False, True])
@pytest.mark.parametrize("word", ["lambda", "in", "class", "None", "global"])
def test_modules_called_as_words_of_python(word: str, export: bool) -> None:
    assert keyword.iskeyword(word)

    class Worded(Net):
        def __init__(self) -> None:
            super().__init__()
            self.ways = nn.ModuleDict({word: nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())})
            self.register_parameter(word, nn.Parameter(torch.ones(8, 1, 1) / 3))

        def forward(self, x: Tensor) -> Tensor:
            if export and x.shape[1] != 3:
                raise ValueError
            return self.rest(self.ways[word](self.conv(x)) * getattr(self, word))

    model = Worded()
    drive = check(model, {"e1": "conv", "e2": f"ways.{word}.0"})
    assert [name.removeprefix("model.") for name in drive.state_dict()] == list(model.state_dict())
    copied = copy.deepcopy(drive).double()
    image = torch.randn(1, *SHAPE, dtype=torch.float64)
    assert torch.equal(sweep(copied, image)["output"], copy.deepcopy(model).double()(image))


def test_a_module_called_self() -> None:
    class Selfish(Net):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("self", nn.Conv2d(8, 8, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.get_submodule("self")(self.conv(x)))

    assert check(Selfish(), {"e1": "conv", "e2": "self"}).nodes["e2"] == "self"


# what cannot be copied ------------------------------------------------------------------------------


def normed(model: Net) -> None:
    weight_norm(model.conv).weight_g.data.mul_(2)


def normed_newly(model: Net) -> None:
    parametrizations.weight_norm(model.conv)
    parametrizations.spectral_norm(model.head)


def spectral(model: Net) -> None:
    spectral_norm(model.conv)
    model(torch.randn(1, *SHAPE))


def pruned(model: Net) -> None:
    prune.l1_unstructured(model.conv, "weight", amount=0.5)
    prune.random_structured(model.head, "weight", amount=0.3, dim=1)


def keeps(model: Any) -> None:
    model.kept = {"features": [model.conv(torch.randn(1, *SHAPE))]}


def locked(model: Any) -> None:
    model.lock = threading.Lock()
    model.log = (line for line in ())


@pytest.mark.parametrize(
    "change", [normed, normed_newly, spectral, pruned, keeps, locked], ids=lambda change: change.__name__
)
def test_what_deepcopy_refuses(change: Callable[[Any], None]) -> None:
    model = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(model)
        drive = check(model.requires_grad_(False))
    if change is not locked:
        copy.deepcopy(drive)


# wrapped, and refused -------------------------------------------------------------------------------


def test_wrappers_are_taken_off() -> None:
    model = Net().eval()
    for wrapped in (torch.compile(model, backend="eager"), nn.DataParallel(model)):
        drive = Drive(wrapped, {"e1": "conv"}, SHAPE)
        image = torch.randn(2, *SHAPE)
        with torch.no_grad():
            assert torch.equal(sweep(drive, image)["output"], model(image))

    part = nn.Sequential(nn.Conv2d(3, 3, 1), torch.compile(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 2, 1))))
    image = torch.randn(2, 3, 4, 4)
    plain = nn.Sequential(part[0], part[1]._orig_mod)
    with torch.no_grad():
        assert torch.equal(sweep(Drive(part, {"e1": "1.1"}, (3, 4, 4)), image)["output"], plain(image))


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()))


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.Linear}, dtype=torch.qint8)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 1), nn.Flatten())


def hooked_wrapper() -> nn.Module:
    wrapped = nn.DataParallel(Net())
    wrapped.register_forward_hook(lambda m, given, out: out * 2)
    return wrapped


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (scripted, "is a TorchScript module"),
        (quantised, "'head' .* is quantised"),
        (lazy, r"'0' \(LazyConv2d\) is lazy"),
        (hooked_wrapper, "has hooks or a forward of its own"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(make: Callable[[], nn.Module], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
    with pytest.raises(ModelError, match=message) as caught:
        Drive(model, {}, SHAPE)
    assert caught.value.faults[0].hint


class TwoOfThem(torch.autograd.Function):
    """Two tensors to two, with a gradient that keeps to where the first is small."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Any:
        ctx.save_for_backward(x)
        return x.sign(), y.abs()

    @staticmethod
    def backward(ctx: Any, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return x * (ctx.saved_tensors[0].abs() < 1), y / 2


class Clipped(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        first, second = TwoOfThem.apply(x, x * 2)
        return self.rest(first + second)


class OtherPadding(Net):
    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for padding in ((0, 0), (2, 2), (1, 1)):
            self.again.padding = padding
            x = self.again(x)
        return self.rest(x)


class OtherWeights(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        first, own = self.conv(x), self.conv.weight
        self.conv.weight = self.other
        second = self.conv(x)
        self.conv.weight = own
        return self.rest(first - second)


class BufferWrittenTwice(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        self.kept[1:3] = 3.0
        x = self.conv(x) * self.kept[1]
        self.kept = self.kept + 1
        x = x + self.kept.sum()
        self.kept.zero_()
        return self.rest(x + self.kept[0])


@pytest.mark.parametrize("kind", [Clipped, OtherPadding, heavy(OtherWeights), BufferWrittenTwice])
def test_what_is_used_twice_and_is_another_each_time(kind: type[nn.Module]) -> None:
    named = {"e1": "conv"} if kind is not OtherWeights else {}
    check(kind(), named)


@pytest.mark.parametrize(
    "hook",
    [
        lambda x: x.register_hook(lambda given: given / 10) if x.requires_grad else None,
        lambda x: None,
    ],
    ids=["of a tensor", "of the model"],
)
def test_a_gradient_that_a_hook_changes_is_refused(hook: Callable[[Tensor], Any]) -> None:
    class Hooked(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            hook(x)
            return self.rest(x)

    model = Hooked()
    if hook(torch.ones(1, requires_grad=True)) is None:
        model.register_full_backward_pre_hook(lambda module, given: (given[0] * 3,))
    with pytest.raises(ModelError, match="its gradient by"):
        Drive(model.eval(), {}, SHAPE)


# outputs --------------------------------------------------------------------------------------------


@dataclass
class Scores:
    hidden: Tensor
    logits: Tensor
    extra: Any = None


class GivesDataclass(Net):
    def forward(self, x: Tensor) -> Scores:
        x = self.conv(x)
        return Scores(x, self.rest(x))


class GivesDict(Net):
    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.conv(x)
        return {"maps": [x, x * 2], "logits": self.rest(x), "more": {"doubled": self.rest(x) * 2}}


class GivesTuple(GivesDict):
    def forward(self, x: Tensor) -> Any:
        return tuple(super().forward(x).values())


@pytest.mark.parametrize(
    ("kind", "wanted", "pick"),
    [
        (GivesDataclass, None, lambda out: out.logits),
        (GivesDataclass, "hidden", lambda out: out.hidden),
        (GivesDict, None, lambda out: out["logits"]),
        (GivesDict, "maps.1", lambda out: out["maps"][1]),
        (GivesDict, "more", lambda out: out["more"]["doubled"]),
        (GivesTuple, None, lambda out: out[1]),
        (GivesTuple, "2.doubled", lambda out: out[2]["doubled"]),
    ],
)
def test_one_tensor_of_several(kind: type[nn.Module], wanted: str | None, pick: Any) -> None:
    model = kind().eval()
    drive = Drive(model, {"e1": "conv"}, SHAPE, output=wanted)
    image = torch.randn(2, *SHAPE)
    with torch.no_grad():
        expected = pick(model(image))
        assert torch.equal(sweep(drive, image)["output"], expected)
    assert drive.output_shape == tuple(expected.shape[1:])


def test_an_output_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="gives no tensor 'logit'") as caught:
        Drive(GivesDict(), {}, SHAPE, output="logit")
    assert "'logits'" in caught.value.faults[0].hint


def test_constants_besides_the_image() -> None:
    class Conditioned(Net):
        def forward(self, x: Tensor, scale: float, shift: Tensor, flip: bool = False) -> Tensor:
            x = x.flip(-1) if flip else x
            return self.rest(self.conv(x) * scale + shift.view(1, -1, 1, 1))

    model = Conditioned().eval()
    shift = [0.5, -0.5] * 4
    drive = Drive(model, {"e1": "conv"}, SHAPE, constants={"scale": 2.0, "shift": shift, "flip": True})
    image = torch.randn(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(sweep(drive, image)["output"], model(image, 2.0, torch.tensor(shift), True))
    with pytest.raises(ModelError, match="takes 3 inputs: x, scale, shift") as caught:
        Drive(model, {}, SHAPE)
    assert "'arguments'" in caught.value.faults[0].hint


# verification ---------------------------------------------------------------------------------------


class InPlaceWithoutGradient(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        with torch.no_grad():
            x.mul_(3)
        return self.rest(x)


class BackwardAndSizes(Net):
    def forward(self, x: Tensor) -> Tensor:
        if int(x.shape[2]) != 12:
            raise ValueError
        return self.rest(Rounded.apply(self.conv(x)))


@pytest.mark.heavy
def test_another_gradient_is_refused() -> None:
    with pytest.raises(ModelError, match="its gradient by"):
        Drive(InPlaceWithoutGradient(), {}, SHAPE)
    with pytest.raises(ModelError, match="the functions Rounded has a backward of its own"):
        Drive(BackwardAndSizes(), {}, SHAPE)


def test_a_difference_is_refused() -> None:
    """A counter outside torch's sight: every second call of `late` doubles."""

    calls = [0]

    class Late(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls[0] += 1
            return x * (1 + calls[0] % 2)

    class Outside(Net):
        def __init__(self) -> None:
            super().__init__()
            self.late = Late()

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.late(self.conv(x)))

    with pytest.raises(ModelError, match=r"differs from Outside itself"):
        Drive(Outside(), {}, SHAPE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types_of_the_weights(dtype: torch.dtype) -> None:
    model = Net().to(dtype).eval()
    drive = Drive(model, {"e1": "conv"}, SHAPE)
    image = torch.randn(2, *SHAPE, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(sweep(drive, image)["output"], model(image))


def test_names_are_the_same_whichever_way_a_model_is_read() -> None:
    class Block(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.conv(x))
            y = torch.relu(y + y.mean((2, 3), keepdim=True))
            return self.head(torch.flatten(F.adaptive_avg_pool2d(y, 1), 1))

    class Checking(Block):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] != 3:
                raise ValueError
            return super().forward(x)

    plain, exported = (trace(kind().eval(), SHAPE) for kind in (Block, Checking))
    assert [row.name for row in exported] == [row.name for row in plain]
    assert [row.shape for row in exported] == [row.shape for row in plain]
    assert exported["conv"].cost == plain["conv"].cost
    assert exported.total_parameters == plain.total_parameters


class Tied(nn.Module):
    """One convolution under three names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.more = nn.ModuleList([self.conv, nn.Sequential(self.conv, nn.ReLU())])
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for layer in self.more:
            x = x + layer(x)
        return self.head(x.mean((2, 3)))


def test_shared_weights_are_loaded_from_files_that_name_them_once(tmp_path: Path) -> None:
    model = Tied().eval()
    save_model(model, str(tmp_path / "once.safetensors"))
    save_file({k: v.clone() for k, v in model.state_dict().items()}, tmp_path / "all.safetensors")
    image = torch.randn(2, *SHAPE)
    for name in ("once", "all"):
        other = load_model(Tied().eval(), weights=str(tmp_path / f"{name}.safetensors"))
        assert torch.equal(other(image), model(image))
    check(model)
