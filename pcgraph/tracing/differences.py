"""Why what was read of a model differs from the model itself."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pcgraph.errors import Fault, ModelError
from pcgraph.tracing.contexts import custom_functions
from pcgraph.tracing.names import Numbering
from pcgraph.tracing.random_operations import draws
from pcgraph.tracing.tracer import quiet_contexts
from pcgraph.tracing.verify import ALONE, Difference, Model, Observed, equal, seeded


def explain(
    model: Model, graph: fx.Graph, names: Mapping[str, str], observed: Observed, difference: Difference
) -> ModelError:
    """What a difference is likely to come from."""
    name = type(model.root).__name__
    image = observed.images[difference.batch]
    with quiet_contexts():
        what, hint = _cause(model, graph, observed, difference)
        told = difference.what == "output" and not model.sites
        place = _first_differing(model, graph, names, image) if told else ""
    text = (
        f"what was read of {name} differs from {name} itself: its {difference.what} by {difference.size:.3g}"
    )
    text += f", first in module '{place}'" if place else ""
    return ModelError(Fault(f"{text}; {what}", hint=hint))


def _cause(model: Model, graph: fx.Graph, observed: Observed, difference: Difference) -> tuple[str, str]:
    image = observed.images[difference.batch]
    if difference.what == ALONE:
        return (
            "it is random in eval mode, and what it draws for one image depends on the others",
            "Draw for each image, with the images as the first dimension.",
        )
    with torch.no_grad(), seeded(4), _RandomOperations(model.root) as random:
        again = Model(model.root, model.constants, model.output)(image)
    if random.found and (model.sites or not equal(again, observed.outputs[difference.batch])):
        operation, place = random.found
        return (
            f"it is random in eval mode: '{operation}' in {place}, and draws otherwise than what was read",
            "Turn that off, or draw with torch.rand, torch.randn, torch.bernoulli or dropout.",
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
        if self.found is None and draws(func, args, kwargs or {}):
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
        with torch.no_grad(), seeded(5):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    values = fx.Interpreter(model.root, graph=graph, garbage_collect_values=False)
    with contextlib.suppress(Exception), torch.no_grad(), seeded(5):
        values.run(image.clone())
    nodes = {node.name: node for node in graph.nodes}
    for name, output in seen.items():
        got = values.env.get(nodes[names[name]]) if name in names else output
        if not equal(got, output):
            return name
    return ""
