"""What a model draws at random: by seed, the image's place and the step alone, whatever its batch.

Each operation that draws becomes a function of numbers that are given to the drive program from outside, as
its states are. So steps, their gradients and their repetitions all see the same numbers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pcgraph.errors import Fault, ModelError
from pcgraph.tracing.random_operations import Kind, draws, name_of, ordered, rule_of

Draws = Mapping[str, Tensor]
"""Numbers by the site that they are for."""

STREAM = 1 << 17
"""Keeps these numbers apart from those of the same seed that images draw, in `pcgraph.datasets`."""


@dataclass(frozen=True)
class Site:
    """A place in a model where numbers are drawn.

    Attributes:
        key: Its name in the environment of a drive program; no state can be called so.
        kind: Uniform from 0 to 1, or standard normal.
        dtype: In which they are drawn.
        shape: Of all numbers, or of those for one image without the axis of the images.
        axis: The axis of the images; None where all share the numbers.
        rows: How many places on that axis an image has, one after the other.
    """

    key: str
    kind: Kind
    dtype: torch.dtype
    shape: tuple[int, ...]
    axis: int | None
    rows: int

    def sizes(self, images: int) -> tuple[int, ...]:
        """The shape of the numbers for so many images."""
        if self.axis is None:
            return self.shape
        return (*self.shape[: self.axis], images * self.rows, *self.shape[self.axis :])

    def fill(self, common: torch.Generator, own: Sequence[torch.Generator]) -> Tensor:
        """The numbers: from ``common`` where all images share them, else from each image's own generator."""
        draw = torch.rand if self.kind == "uniform" else torch.randn
        if self.axis is None:
            return draw(self.shape, generator=common, dtype=self.dtype)
        return torch.cat([draw(self.sizes(1), generator=one, dtype=self.dtype) for one in own], self.axis)


def draw(sites: Sequence[Site], seed: int, places: Sequence[int], step: int) -> dict[str, Tensor]:
    """The numbers of one step, on the CPU: those of an image are the same in whatever batch it is.

    Args:
        sites: Where they are drawn.
        seed: Seed of all.
        places: The place of each image of the batch in its data.
        step: The step.
    """
    if not sites:
        return {}
    common = _generator(seed, step, 0)
    own = [_generator(seed, step, place + 1) for place in places]
    return {site.key: site.fill(common, own) for site in sites}


def _generator(*numbers: int) -> torch.Generator:
    words = np.random.SeedSequence((STREAM, *numbers)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


# in a graph -----------------------------------------------------------------------------------------


def blank(image: Tensor, *site: Any) -> Tensor:
    """Stands in a graph where the numbers of a `Site` are read; zeros where nobody gives them."""
    place = Site(*site)
    return image.new_zeros(place.sizes(len(image)), dtype=place.dtype)


def site_of(node: fx.Node) -> Site | None:
    """The site whose numbers a node of a graph stands for."""
    return Site(*node.args[1:]) if node.target is blank else None  # type: ignore[arg-type]


def sites_of(graph: fx.Graph) -> tuple[Site, ...]:
    """All sites of a graph, in the order of execution."""
    return tuple(site for site in map(site_of, graph.nodes) if site is not None)


def replace_draw(node: fx.Node, image: fx.Node, number: int, place: str) -> None:
    """Let an operation that draws be a function of numbers that are given.

    Args:
        node: The operation, in the graph of an export, with ``meta["val"]``.
        image: The placeholder, with its number of images as a symbol.
        number: Of the operation among those that draw.
        place: The module that it is in, for errors.

    Raises:
        ModelError: It draws in a way that cannot be seeded image by image.
    """
    operation: Any = node.target
    name = name_of(operation)
    value = node.meta["val"]
    value = value[0] if isinstance(value, (tuple, list)) else value
    rule = rule_of(name.removesuffix("_"), operation._overloadname, node.args, value.dtype)
    if rule is None:
        raise random_error(name, place, CANNOT)
    kind, dtype, fill, args = rule
    shape, axis, rows = _along_images(value.shape, image.meta["val"].shape[0], name, place)
    if fill is ordered and axis is not None:
        raise random_error(name, place, "which mixes images")
    with node.graph.inserting_before(node):
        given = (image, f"draw.{number}", kind, dtype or value.dtype, shape, axis, rows)
        drawn = node.graph.call_function(blank, given)
    node.target, node.args, node.kwargs = fill, (drawn, *args), {}


def _along_images(
    sizes: Sequence[Any], images: Any, name: str, place: str
) -> tuple[tuple[int, ...], int | None, int]:
    """The sizes besides that of the images' axis, that axis, and how many places an image has on it."""
    open_ = [axis for axis, size in enumerate(sizes) if isinstance(size, torch.SymInt)]
    if not open_:
        return tuple(sizes), None, 1
    (axis, *others) = open_
    rows = sizes[axis].node.expr / images.node.expr if isinstance(images, torch.SymInt) else None
    if others or rows is None or not rows.is_Integer:
        raise random_error(name, place, "whose numbers cannot be told image by image")
    return tuple(size for at, size in enumerate(sizes) if at != axis), axis, int(rows)


RANDOM = "it is random in eval mode"
CANNOT = "which cannot be drawn image by image"


def random_error(name: str, place: str, problem: str) -> ModelError:
    """A model draws what cannot be seeded."""
    return ModelError(
        Fault(
            f"{RANDOM}: '{name}' in {place}, {problem}",
            hint="Turn that off, or draw with torch.rand, torch.randn, torch.bernoulli or dropout, "
            "for each image.",
        )
    )


# while a model runs ---------------------------------------------------------------------------------


class _Refuse(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if draws(func, args, kwargs or {}):
            raise random_error(name_of(func), "its forward", CANNOT)
        return func(*args, **(kwargs or {}))


def refuse_draws() -> AbstractContextManager[Any]:
    """Raises a ModelError as soon as something is drawn."""
    return _Refuse()  # type: ignore[no-untyped-call]


class Replay(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets a model draw numbers that are given, operation by operation.

    Args:
        given: The numbers, by the keys of their sites.
    """

    def __init__(self, given: Draws) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = dict(given)
        self._count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not draws(func, args, kwargs):
            return result
        name, number = name_of(func), self._count
        self._count += 1
        drawn = self._left.pop(f"draw.{number}", None)
        if drawn is None:  # nothing depends on it
            return result
        like = result[0] if isinstance(result, tuple) else result
        rule = rule_of(name.removesuffix("_"), func._overloadname, args, like.dtype)
        if rule is None or drawn.numel() != like.numel():
            raise random_error(name, "its forward", "and draws in another order than what was read of it")
        made = rule[2](drawn.view(like.shape), *rule[3])
        return args[0].copy_(made) if name.endswith("_") else made

    def __exit__(self, kind: Any, *others: Any) -> None:
        super().__exit__(kind, *others)  # type: ignore[no-untyped-call]
        if kind is None and self._left:
            raise ModelError("it draws less often than what was read of it")


def foreign_draws() -> tuple[Any, ...]:
    """Where the generators of Python and numpy stand, which nobody can give numbers to."""
    state = np.random.get_state(legacy=False)["state"]
    return random.getstate(), *(np.asarray(part).tobytes() for part in state.values())


class _OwnStream(TorchFunctionMode):
    """Draws from torch's own generator instead of those that a model keeps."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {key: value for key, value in (kwargs or {}).items() if key != "generator"}
        return func(*args, **given)


def without_generators(root: nn.Module) -> AbstractContextManager[Any]:
    """Leave a model's generators as they are; `torch.export` cannot read them either.

    Only where there are any: attention of torch takes another way while its functions are watched.
    """
    held = (value for module in root.modules() for value in vars(module).values())
    return _OwnStream() if any(isinstance(value, torch.Generator) for value in held) else nullcontext()
