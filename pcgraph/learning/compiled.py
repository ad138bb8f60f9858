"""A learning rule as one compiled function of a batch: inference, energies, and the weights' gradient."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pcgraph.errors import DivergenceError, PCGraphWarning
from pcgraph.files.cache import Cache, user_cache
from pcgraph.learning.local import Local, Values
from pcgraph.learning.rules import Moment, Rule
from pcgraph.network import PCNetwork
from pcgraph.simulation.compiling import is_hooked, missing_compiler
from pcgraph.simulation.operations import UnfitError
from pcgraph.simulation.packages import Package, load_or_make
from pcgraph.simulation.start import given_values


@dataclass(frozen=True)
class _Made:
    """What was compiled for the first batch.

    Attributes:
        package: From the weights and a batch to what `_Batch` gives; None where that cannot be had.
        weights: All numbers that may change, by name.
        like: What other batches must be like.
    """

    package: Package | None
    weights: Mapping[str, Tensor]
    like: Hashable

    def fits(self, network: PCNetwork, given: Values, steps: int) -> bool:
        """Whether these are values as the package takes them."""
        tensors = all(isinstance(value, Tensor) for value in given.values())
        return tensors and self.like == _signature(network, self.weights, given, steps)


class Compiled:
    """Does what a rule does, without Python between its steps.

    The function is made for batches like the first one; others go uncompiled. It takes the weights as
    arguments, so that they may move. What cannot be compiled goes uncompiled, too, and one warning says why.

    Args:
        rule: One that lets the weights move once a batch.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._made: _Made | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self, local: Local, clamp: Values, steps: int) -> Iterator[Moment]:
        """The moment of one batch, with the gradients of its losses.

        Raises:
            InputError: A clamp that does not fit.
            DivergenceError: A state is not finite after the last step.
        """
        if self._made is None:
            self._made = self._make(local, given_values(local.network, None, clamp), steps)
        package, given = self._made.package, clamp
        if package is None or not self._made.fits(local.network, given, steps):
            given = given_values(local.network, None, clamp)
        if package is None or not self._made.fits(local.network, given, steps):
            yield from self._rule(local, clamp, steps)
            return
        results = package.run(*self._made.weights.values(), *given.values())
        found = {
            part: {n: results[at] for n, at in where.items()} for part, where in package.form.items()
        }
        if not found["finite"]["all"]:
            broken = [name for name, value in found["values"].items() if not value.isfinite().all()]
            raise DivergenceError((broken or list(local.network.graph.nodes))[0], steps)
        yield Moment({**found["values"], **given}, found["energy"], found["start"], found["gradients"])

    def _make(self, local: Local, given: Values, steps: int) -> _Made:
        network = local.network
        weights = dict(network.named_parameters()) | dict(network.named_buffers())
        like = _signature(network, weights, given, steps)
        kept = user_cache()
        if kept is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pcgraph-")
            kept = Cache(Path(self._folder.name))
        try:
            _check(network)
            function = batch_function(self._rule, local, tuple(weights), tuple(given), steps)
            stand_ins = [one.detach().requires_grad_(one.requires_grad) for one in weights.values()]
            package = load_or_make(function, (*stand_ins, *given.values()), kept, shorten=True)
        except Exception as fault:  # of tracer, exporter, compiler, linker, disk: each has types of its own
            reason = str(fault).strip().partition("\n")[0] or type(fault).__name__
            warnings.warn(f"learning is not compiled: {reason}", PCGraphWarning, stacklevel=2)
            return _Made(None, weights, like)
        return _Made(package, weights, like)


def batch_function(
    rule: Rule, local: Local, weights: tuple[str, ...], given: tuple[str, ...], steps: int
) -> Any:
    """All that a rule computes of one batch, as a function of tensors: those weights, then those nodes."""
    batch = _Batch(local, rule, steps)

    def function(*tensors: Tensor) -> dict[str, dict[str, Tensor]]:
        named = {f"network.{name}": tensor for name, tensor in zip(weights, tensors, strict=False)}
        clamp = dict(zip(given, tensors[len(weights) :], strict=True))
        found: dict[str, dict[str, Tensor]] = torch.func.functional_call(batch, named, (clamp,))
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
            "gradients": dict(zip(learned, gradients, strict=True)),
        }
        finite = [value.isfinite().all() for part in ("values", "energy") for value in found[part].values()]
        return found | {"finite": {"all": torch.stack(finite).all()}}


def _check(network: PCNetwork) -> None:
    """Make sure that what is traced is what would run.

    Raises:
        UnfitError: It is not.
    """
    missing = missing_compiler(network.device)
    if missing:
        raise UnfitError(missing)
    if is_hooked(network):
        raise UnfitError("a hook on one of the modules would not be called")
    if torch.is_autocast_enabled(network.device.type):
        raise UnfitError("mixed precision scales gradients on their way")


def _signature(network: PCNetwork, weights: Values, given: Values, steps: int) -> Hashable:
    """What a package is made for."""
    forms = [
        (name, one.shape, one.stride(), one.dtype, one.device, one.requires_grad, one.is_inference())
        for named in (weights, given)
        for name, one in named.items()
    ]
    return steps, torch.is_autocast_enabled(network.device.type), tuple(forms)
