"""Whether a graph computes what the model computes, found by running both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from pcgraph.errors import Fault, ModelError
from pcgraph.tracing.draws import Replay, Site, draw, sites_of, without_generators
from pcgraph.tracing.outputs import choose, follow, plain
from pcgraph.tracing.program import OUTPUT, CutGraph, Part
from pcgraph.tracing.shapes import like_weights
from pcgraph.tracing.snapshot import Snapshot
from pcgraph.tracing.tracer import quiet_contexts

Statistics = tuple[Sequence[float], Sequence[float]]
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Observed:
    """What a model itself does.

    Attributes:
        images: One image of normal noise, and a batch of two: pixels from 0 to 1, normalised, and that noise.
        outputs: The model's output for each.
        gradient: The gradient of a fixed weighted sum of the first output in the first image; None where
            the output does not depend on it.
        differentiable: Whether the model can be differentiated at all; some change in place what their own
            gradient needs.
    """

    images: tuple[Tensor, Tensor]
    outputs: tuple[Tensor, Tensor]
    gradient: Tensor | None
    differentiable: bool = True

    @property
    def mixes_images(self) -> bool:
        """Whether the output of the noise is another beside another image, beyond rounding."""
        alone, beside = self.outputs[0], self.outputs[1][1:]
        if alone.shape != beside.shape or not alone.dtype.is_floating_point:
            return False
        within = torch.finfo(alone.dtype).eps ** 0.5 * alone.abs().max()
        return bool(((alone - beside).abs() > within).any())


@dataclass(frozen=True)
class Difference:
    """How a graph and the model disagree: on which batch, in what, by how much, and first in which module."""

    batch: int
    what: str
    size: float
    module: str


class Model:
    """A model with its constants and its output chosen, called so that it stays as it was.

    Args:
        root: The model.
        constants: What its forward is given besides the image.
        output: Which part of its output is meant; see `choose`.
        sites: Where it draws random numbers, if these are to be the ones that what was read of it draws.
    """

    def __init__(
        self,
        root: nn.Module,
        constants: Mapping[str, Any],
        output: str | None,
        sites: Sequence[Site] = (),
    ) -> None:
        self.root = root
        self.constants = constants
        self.output = output
        self.sites = sites

    def __call__(self, image: Tensor) -> Tensor:
        """The network's output for a batch."""
        before = Snapshot(self.root)
        before.lend_buffers()
        drawn = Replay(_drawn(self.sites, image)) if self.sites else contextlib.nullcontext()
        try:
            with without_generators(self.root), drawn:
                given = plain(self.root(image.clone(), **self.constants))
        finally:
            before.restore()

        def shape(part: Any) -> tuple[int, ...] | None:
            batched = isinstance(part, Tensor) and part.shape[:1] == image.shape[:1]
            return tuple(part.shape[1:]) if batched else None

        chosen = follow(given, choose(given, shape, self.output))
        if not isinstance(chosen, Tensor):
            raise ModelError(f"the model gives no tensor, but {type(chosen).__name__}")
        return chosen


def observe(model: Model, input_shape: tuple[int, ...], statistics: Statistics = IMAGENET) -> Observed:
    """Run a model on one image, forth and back, and on two images, forth.

    Raises:
        ModelError: Its output has no dimension of images where there is one image.
    """
    dtype, device = like_weights(model.root)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, *input_shape), generator=generator)
    pixels = torch.rand((1, *input_shape), generator=generator)
    if len(statistics[0]) == len(statistics[1]) == input_shape[0] and len(input_shape) > 1:
        mean, std = (torch.tensor(s).view(-1, *[1] * (len(input_shape) - 1)) for s in statistics)
        pixels = (pixels - mean) / std
    images = (noise.to(device, dtype), torch.cat([pixels, noise]).to(device, dtype))
    with quiet_contexts(), seeded(1):
        gradient, differentiable = None, True
        try:
            first, gradient = forth_and_back(model, images[0])
        except RuntimeError:
            differentiable = False
            first = _forth(model, images[0])
        outputs = (first, _forth(model, images[1]))
    _check_alone(outputs)
    return Observed(images, outputs, gradient, differentiable)


def _check_alone(outputs: tuple[Tensor, Tensor]) -> None:
    """Refuse an output that has the images as its first dimension where there are several of them only."""
    one, two = (tuple(output.shape) for output in outputs)
    if two[:1] == (2,) and one != (1, *two[1:]):
        raise ModelError(
            Fault(
                f"the model's output has shape {two} for two images, and {one} for one",
                hint="Its forward drops dimensions of size 1, and with them that of a single image: "
                "name them, squeeze(-1), or write flatten(1).",
            )
        )


def compare(
    root: nn.Module, graph: fx.Graph, names: Mapping[str, str], observed: Observed
) -> Difference | None:
    """Where a graph differs from what was observed: bit for bit in values, beyond rounding in the gradient.

    On devices whose kernels add in any order, and where the model draws random numbers, values may differ by
    rounding too. What it draws is the same in both, and in an image alone as in a batch.
    """
    cut = CutGraph(graph, {})
    computes, _ = cut.closure([graph.output_node()])
    stage = cut.stage(Part((OUTPUT,), computes, {}, {OUTPUT: graph.output_node()}), root)

    sites = sites_of(graph)

    def program(image: Tensor, first: int = 0) -> Tensor:
        result: Tensor = stage({"input": image.clone(), **_drawn(sites, image, first)})[OUTPUT]
        return result

    with quiet_contexts(), seeded(2):
        if observed.differentiable:
            first, gradient = forth_and_back(program, observed.images[0])
        else:
            first, gradient = _forth(program, observed.images[0]), None
        same = close if sites else equal  # numbers that are drawn may lie otherwise in memory
        if not same(first, observed.outputs[0]):
            return Difference(0, "output", _far(first, observed.outputs[0]), "")
        if not close(gradient, observed.gradient):
            return Difference(0, "gradient", _far(gradient, observed.gradient), "")
        second = _forth(program, observed.images[1])
        if not same(second, observed.outputs[1]):
            return Difference(1, "output", _far(second, observed.outputs[1]), "")
        for place in range(len(second)) if sites else ():
            one = slice(place, place + 1)
            alone = _forth(partial(program, first=place), observed.images[1][one])
            if not close(alone, second[one]):
                return Difference(1, ALONE, _far(alone, second[one]), "")
    return None


ALONE = "output for an image alone"


def _drawn(sites: Sequence[Site], images: Tensor, first: int = 0) -> dict[str, Tensor]:
    """Numbers for images at the places from ``first`` on."""
    places = range(first, first + len(images))
    return {key: made.to(images.device) for key, made in draw(sites, 0, places, 0).items()}


# ---- the parts --------------------------------------------------------------------------------------


def _forth(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    with torch.no_grad():
        return function(image).detach()


def forth_and_back(function: Callable[[Tensor], Tensor], image: Tensor) -> tuple[Tensor, Tensor | None]:
    """The output, and the gradient of a fixed weighted sum of it in the image, if it depends on it."""
    image = image.detach().requires_grad_()
    output = function(image)
    if not output.requires_grad or not output.dtype.is_floating_point:
        return output.detach(), None
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(output.shape, generator=generator).to(output)
    (gradient,) = torch.autograd.grad((output * weights).sum(), image, allow_unused=True)
    return output.detach(), gradient


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed, and leave the random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def equal(one: Any, other: Tensor) -> bool:
    """Whether two values are one, bit for bit; up to rounding on devices that add in any order."""
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.device.type != "cpu":
        return close(one, other)
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def close(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two gradients are one, up to rounding; none is nothing but zeros."""
    if one is None or other is None:
        return all(gradient is None or not gradient.any() for gradient in (one, other))
    if not one.isfinite().all() or not other.isfinite().all():
        return torch.equal(one.isfinite(), other.isfinite())
    within = 100 * torch.finfo(other.dtype).eps * max(other.abs().max().item(), 1e-30)
    return bool((one - other).abs().max() <= within)


def _far(one: Any, other: Tensor | None) -> float:
    if not isinstance(one, Tensor) or other is None or one.shape != other.shape:
        return float("nan")
    return (one.double() - other.double()).abs().max().item()
