"""From a model to an ``fx`` graph whose nodes have qualified names and change nothing in place."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from pcgraph.errors import Fault, ModelError
from pcgraph.tracing.contexts import Context, CustomFunction, custom_functions, keep_contexts
from pcgraph.tracing.copying import copy_model
from pcgraph.tracing.draws import refuse_draws
from pcgraph.tracing.functional import InPlaceProxy, functionalise
from pcgraph.tracing.lengths import open_lengths
from pcgraph.tracing.names import Numbering, avoid_keywords
from pcgraph.tracing.outputs import plain
from pcgraph.tracing.snapshot import Snapshot


def symbolic_trace(model: nn.Module) -> tuple[fx.GraphModule, dict[str, str]]:
    """Trace a copy of ``model`` in eval mode, and make every operation out-of-place.

    Returns:
        The traced module, and for each qualified name (as torchvision's feature extraction writes
        it: ``features.3``, ``layer1.0.relu_1``, ``block1.add``) the name of its node in the graph,
        in the order of execution.

    Raises:
        ModelError: The model cannot be traced, or changes a view of a tensor in place.
    """
    root = copy_model(model).eval()
    graph, names = trace_symbolically(root)
    return fx.GraphModule(root, graph), names


def trace_symbolically(root: nn.Module, constants: Mapping[str, Any] = {}) -> tuple[fx.Graph, dict[str, str]]:
    """Run ``root`` once on a stand-in for the image and write down what happens to it.

    The graph refers to ``root``, whose modules are changed to compute nothing in place. Modules of torch,
    and those that say so, are called as they are.

    Args:
        root: A copy of a model, in eval mode.
        constants: What its forward is given besides the image.

    Returns:
        The graph, and the name of the node of each qualified name.

    Raises:
        ModelError: It cannot be read so. What the run has changed in ``root`` is as it was before.
    """
    before = Snapshot(root)
    tracer = _Tracer(constants)
    try:
        with refuse_draws(), open_lengths(), warnings.catch_warnings():
            # hooks on the way back are asked to take a stand-in
            warnings.filterwarnings("ignore", "For backward hooks to be called")
            graph = tracer.trace(root)
        changed = before.changed(tracer.leaves)
        if changed:
            raise ModelError(f"{_name(root)} changes '{changed}' while it runs")
        names = {qualified: node.name for node, qualified in tracer.node_to_qualname.items()}
        functionalise(root, graph, {name: qualified for qualified, name in names.items()})
    except Exception as error:
        before.restore()
        if isinstance(error, ModelError):
            raise
        raise ModelError(failure(error, root)) from error
    before.restore(but=lambda name: name == "inplace" or name.startswith("_tensor_constant"))
    _constants_to_buffers(root, graph)
    keep_contexts(graph)
    avoid_keywords(root, graph)
    kept = {node.name for node in graph.nodes}
    return graph, {qualified: name for qualified, name in names.items() if name in kept}


class _Tracer(fx.Tracer):
    """A tracer of qualified names, as torchvision writes them, that also sees what plain tracing forgets.

    That is ``x += y`` and ``x[i] = y``, blocks of ``no_grad`` and ``autocast``, functions with a backward
    of their own, and hooks and a forward that were put on the model itself.
    """

    def __init__(self, constants: Mapping[str, Any]) -> None:
        modules = tuple(module for module in (math, _torchvision_ops()) if module is not None)
        super().__init__(
            autowrap_modules=modules,  # type: ignore[arg-type]  # which torch says to be one
            autowrap_functions=tuple(leaf_functions()),
        )
        self.given = constants
        self.leaves: set[nn.Module] = set()
        self.node_to_qualname: dict[fx.Node, str] = {}
        self._leaf_kinds = tuple(leaf_kinds())
        self._inside = ""

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        self._numbering = Numbering({name for name, _ in root.named_modules()})
        with quiet_contexts(), custom_functions(self._apply):
            self._outer = Context.now()
            graph: fx.Graph = super().trace(root, concrete_args)
            return graph

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: str | None = None, type_expr: Any = None
    ) -> fx.Node:
        if target == "self":  # in generated code, that is the root
            name = "self_"
        node: fx.Node = super().create_node(kind, target, args, kwargs, name, type_expr)
        node.meta["context"] = Context.now().since(self._outer)
        return node

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        outside, self._inside = self._inside, self.path_of_module(m)
        try:
            if not self.is_leaf_module(m, self._inside):
                return forward(*args, **kwargs)
            self.leaves.update(m.modules())
            return self.create_proxy("call_module", self._inside, args, kwargs)
        finally:
            self._inside = outside

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        transforms = type(m).__module__.startswith("torchvision.transforms.")
        return (
            transforms or isinstance(m, self._leaf_kinds) or super().is_leaf_module(m, module_qualified_name)
        )

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        proxy = super().create_proxy(*args, **kwargs)
        self.node_to_qualname[proxy.node] = self._qualified(proxy.node)
        return proxy

    def _apply(self, kind: type[torch.autograd.Function], args: tuple[Any, ...]) -> Any:
        if not any(isinstance(arg, fx.Proxy) for arg in args):
            return NotImplemented
        return self.create_proxy("call_function", CustomFunction(kind), args, {})

    def _qualified(self, node: fx.Node) -> str:
        base = self._inside
        if node.op != "call_module":
            base = ".".join(part for part in (base, re.sub(r"_[0-9]+$", "", str(node))) if part)
        return self._numbering.name(base)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """One placeholder, the image; every other parameter is a constant or keeps its default."""
        image = self.create_proxy("placeholder", image_parameter(self.root, self.given), (), {})
        # Past the patched __call__, which takes a module's own hooks and forward to be its caller's.
        return lambda root, x: plain(root._call_impl(x, **self.given)), [self.root, image]


def _torchvision_ops() -> Any:
    """What torchvision.ops holds; None where nothing has imported them, so that no model has any."""
    return sys.modules.get("torchvision.ops")


def leaf_kinds() -> list[type[nn.Module]]:
    """Modules besides torch's own that are called as they are: what torchvision and timm say of theirs."""
    ops = _torchvision_ops()
    members = [] if ops is None else vars(ops).values()
    kinds = [kind for kind in members if inspect.isclass(kind) and issubclass(kind, nn.Module)]
    layers: Any = sys.modules.get("timm.layers")  # a model of timm's has imported it
    return kinds if layers is None else kinds + layers.get_notrace_modules()


def leaf_functions() -> list[Callable[..., Any]]:
    """The functions of timm that are called as they are."""
    layers: Any = sys.modules.get("timm.layers")
    return [] if layers is None else list(layers.get_notrace_functions())


def image_parameter(root: nn.Module, constants: Mapping[str, Any]) -> str:
    """The name of the one parameter of a model's forward that is the image.

    Raises:
        ModelError: It takes no input, needs more than the constants, or has no such parameter.
    """
    parameters = list(inspect.signature(root.forward).parameters.values())
    if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, _VARIADIC[1]):
        raise ModelError(f"{_name(root)} takes no input")
    first, *others = parameters
    needed = [p.name for p in others if p.default is p.empty and p.kind not in _VARIADIC]
    if missing := [name for name in needed if name not in constants]:
        raise ModelError(
            Fault(
                f"{_name(root)} takes {len(needed) + 1} inputs: {', '.join([first.name, *needed])}",
                hint=f"Give constants for {', '.join(missing)} under the backbone's 'arguments', or wrap the "
                "model in a module whose forward takes one tensor.",
            )
        )
    return first.name


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@contextlib.contextmanager
def quiet_contexts() -> Iterator[None]:
    """Gradients on and autocast off, whatever the caller has set, and compiled functions as plain ones."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device, _, on in Context.now().autocast:
            if on:
                stack.enter_context(torch.autocast(device, enabled=False))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _constants_to_buffers(root: nn.Module, graph: fx.Graph) -> None:
    """Let tensors that are plain attributes move with the module from device to device."""
    made: dict[int, str] = {}
    for node in graph.find_nodes(op="get_attr"):
        owner, _, name = str(node.target).rpartition(".")
        holder = root.get_submodule(owner)
        value = vars(holder).get(name)
        if isinstance(value, Tensor):
            if id(value) not in made:
                made[id(value)] = f"_constant_{len(made)}"
                root.register_buffer(made[id(value)], value, persistent=False)
            node.target = made[id(value)]


def _name(model: nn.Module) -> str:
    return type(model).__name__


def failure(error: Exception, root: nn.Module) -> Fault:
    """Where in the model's own code reading it failed, and what it means."""
    qualified = _innermost(error, root)
    place = f"in its forward (module '{qualified}')" if qualified else "in its forward"
    ours = ("/torch/", "pcgraph/tracing/", "<eval_with_key>")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename.replace("\\", "/") for part in ours):
            place += f", line {frame.lineno} of {frame.filename} (`{frame.line}`)"
            break
    hint = "A model is read by running it once on a stand-in for the image."
    text = str(error).strip().partition("\n")[0]
    if any(sign in text for sign in _DECIDES) or isinstance(error, TypeError):
        hint = (
            "There the model decides by the image's values or by how many images there are, or turns them "
            "into Python numbers. Compute it with tensor operations, or fix it when the model is built."
        )
    return Fault(f"{_name(root)} cannot be traced {place}: {text}", hint=hint)


def _innermost(error: Exception, root: nn.Module) -> str:
    """The innermost module whose code was running when the error was raised."""
    names = {id(module): name for name, module in root.named_modules()}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    running = [names.get(id(frame.f_locals.get("self")), "") for frame in frames]
    return next((name for name in reversed(running) if name), "")


_DECIDES = ("control flow", "iterated", "__len__", "data-dependent", "Constraints violated", "specialized")
