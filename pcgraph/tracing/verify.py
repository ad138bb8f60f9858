"""Whether a graph computes what the model computes, found by running both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pcgraph.errors import Fault, ModelError
from pcgraph.tracing.contexts import custom_functions
from pcgraph.tracing.names import Numbering
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
        images: One image of normal noise, and a batch of two with pixels from 0 to 1, normalised.
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
    """

    def __init__(self, root: nn.Module, constants: Mapping[str, Any], output: str | None) -> None:
        self.root = root
        self.constants = constants
        self.output = output

    def __call__(self, image: Tensor) -> Tensor:
        """The network's output for a batch."""
        before = Snapshot(self.root)
        before.lend_buffers()
        try:
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
    """Run a model on one image, forth and back, and on two images, forth."""
    dtype, device = like_weights(model.root)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, *input_shape), generator=generator)
    pixels = torch.rand((2, *input_shape), generator=generator)
    if len(statistics[0]) == len(statistics[1]) == input_shape[0] and len(input_shape) > 1:
        mean, std = (torch.tensor(s).view(-1, *[1] * (len(input_shape) - 1)) for s in statistics)
        pixels = (pixels - mean) / std
    images = (noise.to(device, dtype), pixels.to(device, dtype))
    with quiet_contexts(), _seeded(1):
        gradient, differentiable = None, True
        try:
            first, gradient = _forth_and_back(model, images[0])
        except RuntimeError:
            differentiable = False
            first = _forth(model, images[0])
        outputs = (first, _forth(model, images[1]))
    return Observed(images, outputs, gradient, differentiable)


def compare(
    root: nn.Module, graph: fx.Graph, names: Mapping[str, str], observed: Observed
) -> Difference | None:
    """Where a graph differs from what was observed: bit for bit in values, beyond rounding in the gradient.

    On devices whose kernels add in any order, values may differ by rounding too.
    """
    cut = CutGraph(graph, {})
    computes, _ = cut.closure([graph.output_node()])
    stage = cut.stage(Part((OUTPUT,), computes, {}, {OUTPUT: graph.output_node()}), root)

    def program(image: Tensor) -> Tensor:
        result: Tensor = stage({"input": image.clone()})[OUTPUT]
        return result

    with quiet_contexts(), _seeded(2):
        if observed.differentiable:
            first, gradient = _forth_and_back(program, observed.images[0])
        else:
            first, gradient = _forth(program, observed.images[0]), None
        if not _equal(first, observed.outputs[0]):
            return Difference(0, "output", _far(first, observed.outputs[0]), "")
        if not _close(gradient, observed.gradient):
            return Difference(0, "gradient", _far(gradient, observed.gradient), "")
        second = _forth(program, observed.images[1])
        if not _equal(second, observed.outputs[1]):
            return Difference(1, "output", _far(second, observed.outputs[1]), "")
    return None


def explain(
    model: Model, graph: fx.Graph, names: Mapping[str, str], observed: Observed, difference: Difference
) -> ModelError:
    """What a difference is likely to come from."""
    name = type(model.root).__name__
    image = observed.images[difference.batch]
    with quiet_contexts():
        what, hint = _cause(model, graph, observed, difference)
        place = "" if difference.what == "gradient" else _first_differing(model, graph, names, image)
    text = (
        f"what was read of {name} differs from {name} itself: its {difference.what} by {difference.size:.3g}"
    )
    text += f", first in module '{place}'" if place else ""
    return ModelError(Fault(f"{text}; {what}", hint=hint))


# ---- the parts --------------------------------------------------------------------------------------


def _forth(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    with torch.no_grad():
        return function(image).detach()


def _forth_and_back(function: Callable[[Tensor], Tensor], image: Tensor) -> tuple[Tensor, Tensor | None]:
    image = image.detach().requires_grad_()
    output = function(image)
    if not output.requires_grad or not output.dtype.is_floating_point:
        return output.detach(), None
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(output.shape, generator=generator).to(output)
    (gradient,) = torch.autograd.grad((output * weights).sum(), image, allow_unused=True)
    return output.detach(), gradient


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _equal(one: Any, other: Tensor) -> bool:
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.device.type != "cpu":
        return _close(one, other)
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _close(one: Tensor | None, other: Tensor | None) -> bool:
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


def _cause(model: Model, graph: fx.Graph, observed: Observed, difference: Difference) -> tuple[str, str]:
    image = observed.images[difference.batch]
    with torch.no_grad(), _seeded(4), _RandomOperations(model.root) as random:
        again = model(image)
    if random.found and not _equal(again, observed.outputs[difference.batch]):
        operation, place = random.found
        return (
            f"it is random in eval mode: '{operation}' in {place}",
            "Turn that off, or make what it draws a part of the model. With verify=False (--no-verify) it is "
            "run as it is, with other draws at each step.",
        )
    if difference.what == "gradient":
        custom: list[str] = []

        def note(kind: type[torch.autograd.Function], _: object) -> Any:
            custom.append(kind.__name__)
            return NotImplemented

        with torch.no_grad(), custom_functions(note):
            model(image)
        what = f"the functions {', '.join(dict.fromkeys(custom))}" if custom else "something in it"
        return f"{what} has a backward of its own that could not be read", _AS_A_LEAF
    if difference.batch == 1:
        return (
            "it agrees for one image of noise: the model decides by how many images there are, or by what "
            "they show",
            "Compute it with tensor operations, or fix it when the model is built.",
        )
    return "its forward does something that could not be read", _AS_A_LEAF


_AS_A_LEAF = "Write that part as a module whose forward uses tensor operations only."


class _RandomOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the first operation that draws random numbers, and the module that it is in."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.root = root
        self.found: tuple[str, str] | None = None
        self._inside: list[str] = []

    def __enter__(self) -> _RandomOperations:
        self._hooks = []
        for name, module in self.root.named_modules():
            place = f"'{name}' ({type(module).__name__})" if name else type(module).__name__
            self._hooks += [
                module.register_forward_pre_hook(lambda *_, place=place: self._inside.append(place)),
                module.register_forward_hook(lambda *_: self._leave(), always_call=True),
            ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def _leave(self) -> None:
        self._inside.pop()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.found is None and torch.Tag.nondeterministic_seeded in func.tags:
            self.found = (str(func.overloadpacket.__name__), self._inside[-1] if self._inside else "it")
        return func(*args, **(kwargs or {}))


def _first_differing(model: Model, graph: fx.Graph, names: Mapping[str, str], image: Tensor) -> str:
    """The first module whose output is not what the graph has there."""
    seen: dict[str, Tensor] = {}
    numbering = Numbering({name for name, _ in model.root.named_modules()})

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: object, output: Any) -> None:
            if isinstance(output, Tensor):
                seen[numbering.name(name)] = output.detach().clone()

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.root.named_modules() if name]
    try:
        with torch.no_grad(), _seeded(5):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    values = fx.Interpreter(model.root, graph=graph, garbage_collect_values=False)
    with contextlib.suppress(Exception), torch.no_grad(), _seeded(5):
        values.run(image.clone())
    nodes = {node.name: node for node in graph.nodes}
    for name, output in seen.items():
        got = values.env.get(nodes[names[name]]) if name in names else output
        if not _equal(got, output):
            return name
    return ""
