"""Compiled functions of a state: a whole step, or the readout, without a graph break.

What cannot be compiled is called as it is, and a warning says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only

from pcgraph.dynamics.descent import Pace
from pcgraph.errors import PCGraphWarning
from pcgraph.files.cache import Cache, user_cache
from pcgraph.network import PCNetwork
from pcgraph.predictors.fast.lent_tiles import Lent, Transformed, lent, transformed
from pcgraph.predictors.fast.transposes import Affine, affine
from pcgraph.simulation.channels_last import lay_out
from pcgraph.simulation.foreign import KeepsError, foreign_predictors, refuse_changes, traced
from pcgraph.simulation.packages import Package, load_or_make
from pcgraph.simulation.plan import Plan
from pcgraph.simulation.step import Evaluation, advance, evaluate
from pcgraph.simulation.toolchain import NoCompilerError, reason_of, require_compiler
from pcgraph.state import State
from pcgraph.tracing.snapshot import Snapshot

if TYPE_CHECKING:
    from torch._dynamo.types import GuardFilterEntry

Options = dict[str, Any]


class Compiler:
    """Compiles each function when it is first called, once for all that follow.

    Feature maps are handed over channels-last, as convolutions are fastest; what the functions compute from
    them stays so.

    Args:
        device: Where they run. On a GPU they are replayed as CUDA graphs.
        options: For `torch.compile`, whose faults are then the caller's; left out, the default backend with
            frozen weights (batch norm folded, weights packed for the processor).
        constant: The predictors that steps replace by their constant form, by edge.
        kept: Where compiled functions are kept for later processes; None makes them anew in each.
        freezing: Whether weights are frozen; those of float64 cannot be packed.
        weights: What becomes constants.
        foreign: Predictors that may keep something between calls; if one does, nothing is compiled.

    Attributes:
        gave_up: Whether something could not be compiled; from then on nothing is.
    """

    def __init__(
        self,
        device: torch.device,
        options: Options,
        constant: Mapping[str, Affine] | None = None,
        kept: Cache | None = None,
        freezing: bool = True,
        weights: Sequence[Tensor] = (),
        foreign: nn.ModuleDict | None = None,
    ) -> None:
        self.constant, self.kept = constant or {}, kept
        self.on_gpu = device.type == "cuda"
        self.gave_up, self._is_default = False, not options
        self._not_kept: Exception | None = None
        self.options = options or {
            "options": {
                "freezing": freezing,
                "triton.cudagraphs": self.on_gpu,
                "guard_filter_fn": _only_arguments,
            }
        }
        self._weights = [(one, _changes(one)) for one in weights]
        self._foreign = nn.ModuleDict() if foreign is None else foreign
        self._compiled: dict[Hashable, Callable[..., Any]] = {}
        self._packages: dict[Hashable, Package | None] = {}

    @property
    def used(self) -> bool:
        """Whether something was compiled."""
        return bool(self._compiled or self._packages)

    def knows(self, network: PCNetwork) -> bool:
        """Whether the weights are those that became constants, and nothing was written into them."""
        weights = _weights(network)
        same = zip(weights, self._weights, strict=False)
        return len(weights) == len(self._weights) and all(
            one is known and _changes(one) == changes for one, (known, changes) in same
        )

    def __call__(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)``, compiled; the function of a key is the one that first came with it."""
        arguments = tree_map_only(Tensor, _laid_out, arguments)
        if self.kept is not None and not self.gave_up:
            signature = (key, _signature(arguments))
            if signature not in self._packages:
                self._packages[signature] = self._package(function, arguments, self.kept)
            package = self._packages[signature]
            if package is not None:
                return package(*arguments)
        if not self.gave_up:
            before = None if key in self._compiled else Snapshot(self._foreign)
            try:
                results = self._within_this_process(key, function, arguments)
            except Exception as fault:
                if not self._is_default or isinstance(fault, torch.OutOfMemoryError):
                    raise
                self._give_up(fault)
            else:
                if self._not_kept is not None:
                    _say(f"what was compiled is not kept for later processes: {reason_of(self._not_kept)}")
                    self._not_kept = None
                try:
                    if before is not None:
                        refuse_changes(self._foreign, before)
                except KeepsError as fault:  # once it had what it kept
                    self._give_up(fault)
                return results
        return function(*arguments)

    def _package(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], kept: Cache
    ) -> Package | None:
        """The function ahead of time; None where that cannot be had."""
        try:
            with traced(self._foreign):
                return load_or_make(function, arguments, kept)
        except (NoCompilerError, KeepsError) as fault:
            self._give_up(fault)
        except Exception as fault:  # of tracer, exporter, compiler, linker, disk: each has types of its own
            self.kept, self._not_kept = None, fault
        return None

    def _give_up(self, fault: Exception) -> None:
        self.gave_up = True
        _say(f"steps are not compiled: {reason_of(fault)}")

    def _within_this_process(
        self, key: Hashable, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        from torch._inductor import config

        if key not in self._compiled:
            if self._is_default:
                require_compiler("cuda" if self.on_gpu else "cpu")

            def called(*arguments: Any) -> Any:  # `_only_arguments` knows the name
                return function(*arguments)

            # functions that share their code would share, and overflow, one cache of compilations
            called.__code__ = called.__code__.replace()
            # copies of what `torch.compile` takes entries out of
            options: Options = {k: dict(v) if isinstance(v, dict) else v for k, v in self.options.items()}
            self._compiled[key] = torch.compile(called, fullgraph=True, dynamic=False, **options)
        freezing = self.options.get("options", {}).get("freezing", False)
        if self.on_gpu:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # the option alone reaches the backend, but not the tracing that has to hand it the weights
        with config.patch(freezing=freezing):
            results = self._compiled[key](*arguments)
        # a CUDA graph writes its results to the same place every time
        return tree_map_only(Tensor, torch.clone, results) if self.on_gpu else results

    def step(
        self, plan: Plan, state: State, pace: Pace | None
    ) -> tuple[Evaluation, State, dict[str, Tensor]]:
        """`evaluate` and `advance` as one compiled function of a state's tensors and transformed weights."""
        predictors, tiled = plan.network.predictors, self._tiled(plan, state.batch)

        def fused(parts: dict[str, Any], pace: Pace | None, tensors: dict[str, Lent]) -> tuple[Any, ...]:
            given = State(**parts)
            names = () if torch.compiler.is_dynamo_compiling() else tiled  # only packages have tiles
            in_tiles = {name: lent(predictors[name], tiled[name], tensors[name]) for name in names}
            evaluation = evaluate(plan, given, False, instead={**self.constant, **in_tiles})
            following, instant = advance(plan, given, evaluation, pace)
            if not plan.watched:  # then only the gradients can have been asked for
                evaluation = Evaluation(pulls=evaluation.pulls)
            seen = (evaluation.predictions, evaluation.errors, evaluation.pulls)
            return *seen, following.values, following.moments, instant

        # without the number of the step and the like, or each step would be compiled
        parts = {name: part for name, part in vars(state).items() if name not in ("step", "seed", "places")}
        tensors = {name: {key: one.tensors for key, one in known.items()} for name, known in tiled.items()}
        *seen, values, moments, instant = self(plan, fused, parts, pace and pace.as_tensors(), tensors)
        following = state.followed_by(values, moments, pace.draws if pace else {})
        return Evaluation({}, *seen), following, instant

    def _tiled(self, plan: Plan, batch: int) -> dict[str, Transformed]:
        """By edge, the transformed weights of predictors that a package computes in tiles."""
        if self.kept is None:
            return {}
        names = [block.edges[0].name for block in plan.delayed if not block.in_backbone]
        found = {name: transformed(plan.network.predictors[name], batch) for name in names}
        return {name: weights for name, weights in found.items() if weights}


def _only_arguments(guards: Sequence[GuardFilterEntry]) -> list[bool]:
    """Which guards to look at before each call: those on arguments, and on modes such as autocast.

    Whatever else a function reads (plan, modules, weights) does not change once it is compiled, but is much.
    """
    names = [guard.name.removeprefix("L['") for guard in guards]  # a local, as some versions write it
    return [not name or name.startswith("arguments") for name in names]


def find_compiler(network: PCNetwork, options: Options) -> Compiler:
    """What compiles functions of a network, which becomes channels-last and makes what can be made once."""
    lay_out(network, channels_last=True)
    apart = bool(options) or network.device.type != "cpu" or is_hooked(network)
    kept = None if apart else user_cache()
    constant, freezing = dict(_constant_predictors(network)), network.dtype != torch.float64
    foreign = foreign_predictors(network)
    return Compiler(network.device, options, constant, kept, freezing, _weights(network), foreign)


def _weights(network: PCNetwork) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _changes(tensor: Tensor) -> int:
    """How often something was written into a tensor; inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version


def _constant_predictors(network: PCNetwork) -> Iterator[tuple[str, Affine]]:
    for name, edge in network.graph.edges.items():
        if edge.predictor is not None and len(edge.sources) == 1:
            constant = affine(network.predictors[name])
            if constant is not None:
                yield name, constant


def is_hooked(network: PCNetwork) -> bool:
    """Whether somebody listens to a module, who would hear nothing of a package."""
    drive = network.drive.modules() if network.drive is not None else ()
    return any(one._forward_hooks or one._forward_pre_hooks for one in (*network.modules(), *drive))


def _say(text: str) -> None:
    warnings.warn(text, PCGraphWarning, stacklevel=3)


def _signature(arguments: tuple[Any, ...]) -> Hashable:
    """What a package is made for: structure, shapes, all that is no tensor, and autocast."""
    leaves, structure = tree_flatten(arguments)
    kinds = [(leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
    return structure, tuple(kinds), autocast


def _laid_out(value: Tensor) -> Tensor:
    """Maps channels-last and all else in rows, with the strides that such tensors have when they are new."""
    form = torch.channels_last if value.dim() == 4 else torch.contiguous_format
    value = value.resolve_neg().contiguous(memory_format=form)  # packages read the memory as it is
    strides = _strides(tuple(value.shape), form)
    return value if value.stride() == strides else value.as_strided(value.shape, strides)


@lru_cache(maxsize=1024)
def _strides(shape: tuple[int, ...], form: torch.memory_format) -> tuple[int, ...]:
    return torch.empty(shape, device="meta").contiguous(memory_format=form).stride()
