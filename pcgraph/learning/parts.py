"""A batch cut into equal parts, one for each thread.

Threads that share the work of each operation wait for each other at each, and where one has to wait for its
core, so do all. Images of a batch know nothing of each other until their gradients are added up: each thread
computes one part from its start to its gradients, and they wait for each other once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pcgraph.errors import InputError
from pcgraph.files.cache import Cache
from pcgraph.learning.moving import Mover
from pcgraph.network import PCNetwork
from pcgraph.simulation.batch_parts import check_divisible
from pcgraph.simulation.packages import Package, load_or_make
from pcgraph.simulation.side_by_side import Team, Unlocked
from pcgraph.training.threads import largest_layer

LEAST = 2**23
"""Multiplications of the largest layer for one part. Where they are fewer, another thread gains little."""


class Parts:
    """All that is computed of a batch, like one `Package`.

    Args:
        part: From the weights and some images to what `joined` takes of them.
        joined: From the weights, the results of all parts and the optimizer's tensors to those of the batch.
        weights: How many tensors.
        given: How many hold the images.
        count: How many parts.
    """

    def __init__(self, part: Unlocked, joined: Package, weights: int, given: int, count: int) -> None:
        self._part, self._joined, self._count = part, joined, count
        self._ends = weights, weights + given
        self._team, self.form = Team(), joined.form

    def run(self, *tensors: Tensor) -> list[Tensor]:
        """From the tensors of the arguments to those of the results."""
        weights, state = tensors[: self._ends[0]], tensors[self._ends[1] :]
        images = zip(*(one.chunk(self._count) for one in tensors[slice(*self._ends)]), strict=True)
        found = self._team([partial(self._part, *weights, *some) for some in images])
        return self._joined.run(*weights, *chain(*found), *state)


def count_parts(network: PCNetwork, images: int, threads: int) -> int:
    """Into how many parts a batch is cut; 1 where an image may depend on others, or parts would be small."""
    try:
        check_divisible(network.spec, network.spec.schedule.tolerance)
    except InputError:
        return 1
    if network.device.type != "cpu" or not all(map(_is_each_for_itself, network.modules())):
        return 1
    most = min(threads, images * largest_layer(network) // LEAST)
    return max((count for count in range(1, most + 1) if images % count == 0), default=1)


def cut(
    function: Callable[..., Any],
    weights: dict[str, Tensor],
    given: Sequence[Tensor],
    state: Sequence[Tensor],
    mover: Mover | None,
    count: int,
    kept: Cache,
) -> Parts | None:
    """What computes a batch in parts; None where this torch, or this system, cannot call a package so.

    Args:
        function: From weights and images to their results, each averaged over the images.
        weights: By name.
        given: The images of a part.
        state: The tensors of the optimizer.
        mover: Its step, if that is made, too.
        count: How many parts.
        kept: Where packages are.

    Raises:
        Exception: Whatever torch raises where it cannot trace or compile it.
    """
    package = load_or_make(function, (*weights.values(), *given), kept, shorten=True)
    try:
        part = Unlocked(package, count)
        results = part(*weights.values(), *given)
    except Exception:
        return None
    join = _joining(tuple(weights), package.form, len(results), mover, count)
    joined = load_or_make(join, (*weights.values(), *results * count, *state), kept)
    return Parts(part, joined, len(weights), len(given), count)


def _joining(
    weights: tuple[str, ...], form: dict[str, dict[str, int]], size: int, mover: Mover | None, count: int
) -> Callable[..., dict[str, dict[str, Tensor]]]:
    """From the results of the parts to those of the batch, as a function of tensors."""

    def function(*tensors: Tensor) -> dict[str, dict[str, Tensor]]:
        rest = iter(tensors)
        learned = dict(zip(weights, rest, strict=False))
        parts = [list(islice(rest, size)) for _ in range(count)]
        found = {
            kind: {name: _joined(kind, [part[place] for part in parts]) for name, place in places.items()}
            for kind, places in form.items()
        }
        if mover is not None:
            mover.move(learned, found["gradients"], list(rest), found["finite"]["all"])
        return found

    return function


def _joined(kind: str, parts: Sequence[Tensor]) -> Tensor:
    if kind == "values":
        return torch.cat(list(parts))
    if kind == "finite":
        return torch.stack(list(parts)).all()
    return sum(parts[1:], parts[0]) / len(parts)


def _is_each_for_itself(module: nn.Module) -> bool:
    """Whether what a module does with an image is known not to depend on the others of the batch."""
    if isinstance(module, _NormBase) and (module.training or module.running_mean is None):
        return False
    return type(module).__module__.startswith(("torch.nn.", "pcgraph."))
