"""A learning rule as one compiled function of a batch: inference, energies, and the weights' gradient."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pcgraph.errors import DivergenceError, PCGraphWarning
from pcgraph.files.cache import Cache, user_cache
from pcgraph.learning.local import Local, Values
from pcgraph.learning.moving import Mover
from pcgraph.learning.parts import Parts, count_parts, cut
from pcgraph.learning.rules import Moment, Rule
from pcgraph.network import PCNetwork
from pcgraph.simulation.compiling import is_hooked
from pcgraph.simulation.foreign import foreign_predictors, traced
from pcgraph.simulation.operations import UnfitError
from pcgraph.simulation.packages import Package, load_or_make
from pcgraph.simulation.start import given_values
from pcgraph.simulation.toolchain import reason_of


@dataclass(frozen=True)
class _Made:
    """What was compiled for the first batch.

    Attributes:
        package: From the weights, a batch and the optimizer's tensors to what `_Batch` gives.
        weights: All numbers that may change, by name.
        mover: The step of the optimizer, if it is part of the package.
        form: Of the optimizer.
        like: What the tensors of other batches must be like.
    """

    package: Package | Parts
    weights: Mapping[str, Tensor]
    mover: Mover | None
    form: Hashable
    like: Hashable

    def arguments(self, given: Values, steps: int) -> list[Tensor] | None:
        """What the package takes for a batch; None where it does not fit."""
        if self.mover is not None and self.mover.form != self.form:
            return None
        state = self.mover.tensors() if self.mover else []
        if state is None:
            return None
        tensors = [*self.weights.values(), *given.values(), *state]
        return tensors if _signature(given, steps, tensors) == self.like else None


class Compiled:
    """Does what a rule does, without Python between its steps, and the step of the optimizer where it can.

    The function is made for batches like the first one; others go uncompiled. It takes the weights as
    arguments, so that they may move. What cannot be compiled goes uncompiled, too, and one warning says why.

    Args:
        rule: One that lets the weights move once a batch.
        optimizer: What moves them; left out, whoever asks.
        threads: Into how many parts a batch may be cut where one thread is all that it would use.
    """

    def __init__(self, rule: Rule, optimizer: torch.optim.Optimizer | None = None, threads: int = 1) -> None:
        self._rule, self._optimizer, self._threads = rule, optimizer, threads
        self._made: _Made | None = None
        self._tried = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self, local: Local, clamp: Values, steps: int) -> Iterator[Moment]:
        """The moment of one batch, with the gradients of its losses.

        Raises:
            InputError: A clamp that does not fit.
            DivergenceError: A state is not finite after the last step.
        """
        if not self._tried:
            self._made, self._tried = self._make(local, given_values(local.network, None, clamp), steps), True
        made, given = self._made, clamp
        arguments = made and made.arguments(given, steps)
        if made and not arguments:
            given = given_values(local.network, None, clamp)
            arguments = made.arguments(given, steps)
        if not made or not arguments:
            yield from self._rule(local, clamp, steps)
            return
        results, form = made.package.run(*arguments), made.package.form
        found = {part: {n: results[at] for n, at in where.items()} for part, where in form.items()}
        if not found["finite"]["all"]:
            broken = [name for name, value in found["values"].items() if not value.isfinite().all()]
            raise DivergenceError((broken or list(local.network.graph.nodes))[0], steps)
        if made.mover is not None:
            made.mover.tell()
        values, moved = {**found["values"], **given}, made.mover is not None
        yield Moment(values, found["energy"], found["start"], found["gradients"], moved)

    @property
    def gave_up(self) -> bool:
        """Whether the first batch could not be compiled."""
        return self._tried and self._made is None

    def _make(self, local: Local, given: Values, steps: int) -> _Made | None:
        network = local.network
        weights = dict(network.named_parameters()) | dict(network.named_buffers())
        mover = Mover.find(self._optimizer, weights) if self._optimizer is not None else None
        form = mover.form if mover else None
        state = mover.tensors() if mover and form is not None else None
        if state is None:
            mover, form, state = None, None, []
        kept = user_cache()
        if kept is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pcgraph-")
            kept = Cache(Path(self._folder.name))
        try:
            _check(network)
            names = tuple(weights), tuple(given)
            parts = self._parts(network, given)
            package: Package | Parts | None = None
            with traced(foreign_predictors(network)):
                if parts > 1:
                    function = batch_function(self._rule, local, *names, steps)
                    images = [value.chunk(parts)[0] for value in given.values()]
                    package = cut(function, _copies(weights), images, state, mover, parts, kept)
                if package is None:
                    function = batch_function(self._rule, local, *names, steps, mover)
                    arguments = (*_copies(weights).values(), *given.values(), *state)
                    package = load_or_make(function, arguments, kept, shorten=True)
        except Exception as fault:  # of tracer, exporter, compiler, linker, disk: each has types of its own
            warnings.warn(f"learning is not compiled: {reason_of(fault)}", PCGraphWarning, stacklevel=2)
            return None
        like = _signature(given, steps, [*weights.values(), *given.values(), *state])
        return _Made(package, weights, mover, form, like)

    def _parts(self, network: PCNetwork, given: Values) -> int:
        """Into how many parts batches like this one are cut."""
        if torch.get_num_threads() > 1:
            return 1
        return count_parts(network, len(next(iter(given.values()))), self._threads)


def batch_function(
    rule: Rule,
    local: Local,
    weights: tuple[str, ...],
    given: tuple[str, ...],
    steps: int,
    mover: Mover | None = None,
) -> Any:
    """All that a rule computes of one batch, as a function of tensors: those weights, then those nodes.

    With the step of an optimizer its tensors follow, and they and the weights are changed in place.
    """
    batch = _Batch(local, rule, steps)

    def function(*tensors: Tensor) -> dict[str, dict[str, Tensor]]:
        rest = iter(tensors)
        learned, clamp = (dict(zip(names, rest, strict=False)) for names in (weights, given))
        named = {f"network.{name}": tensor for name, tensor in learned.items()}
        found: dict[str, dict[str, Tensor]] = torch.func.functional_call(batch, named, (clamp,))
        if mover is not None:
            mover.move(learned, found["gradients"], list(rest), found["finite"]["all"])
        return found

    return function


class _Batch(nn.Module):
    """The work of one batch, as a module whose weights can be replaced."""

    def __init__(self, local: Local, rule: Rule, steps: int) -> None:
        super().__init__()
        self.network = local.network
        self._work = (local, rule, steps)

    def forward(self, given: Values) -> dict[str, dict[str, Tensor]]:
        """States that moved, energies, losses of guesses, gradients; whether all of it is finite."""
        local, rule, steps = self._work
        with torch.enable_grad():
            moments = list(rule(local, given, steps))
            if len(moments) != 1:
                raise UnfitError("the rule lets the weights move more than once a batch")
            learned = {name: one for name, one in self.network.named_parameters() if one.requires_grad}
            total = torch.stack(list(moments[0].losses.values())).sum()
            gradients = torch.autograd.grad(total, list(learned.values()), materialize_grads=True)
        found = {
            "values": {name: value for name, value in moments[0].values.items() if name not in given},
            "energy": dict(moments[0].energy),
            "start": dict(moments[0].start),
            # copies, as a gradient may be a weight, or that of another one, which is then written into
            "gradients": {name: one.clone() for name, one in zip(learned, gradients, strict=True)},
        }
        finite = [value.isfinite().all() for part in ("values", "energy") for value in found[part].values()]
        return found | {"finite": {"all": torch.stack(finite).all()}}


def _copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: one.detach().requires_grad_(one.requires_grad) for name, one in weights.items()}


def _check(network: PCNetwork) -> None:
    """Make sure that what is traced is what would run.

    Raises:
        UnfitError: It is not.
    """
    if is_hooked(network):
        raise UnfitError("a hook on one of the modules would not be called")
    if torch.is_autocast_enabled(network.device.type):
        raise UnfitError("mixed precision scales gradients on their way")


def _signature(given: Values, steps: int, tensors: Sequence[Tensor]) -> Hashable:
    """What a package is made for."""
    forms = [
        (one.shape, one.stride(), one.dtype, one.device, one.requires_grad, one.is_inference())
        if isinstance(one, Tensor)
        else None
        for one in tensors
    ]
    return steps, torch.is_autocast_enabled(tensors[0].device.type), tuple(given), tuple(forms)
