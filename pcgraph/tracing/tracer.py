"""From a model to an ``fx`` graph whose nodes have qualified names and change nothing in place."""

from __future__ import annotations

import copy
import inspect
import math
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import fx, nn
from torchvision.models import feature_extraction

from pcgraph.errors import Fault, ModelError
from pcgraph.tracing.functional import InPlaceProxy, functionalise


def symbolic_trace(model: nn.Module) -> tuple[fx.GraphModule, dict[str, str]]:
    """Trace a copy of ``model`` in eval mode, and make every operation out-of-place.

    Returns:
        The traced module, and for each qualified name (as torchvision's feature extraction writes
        it: ``features.3``, ``layer1.0.relu_1``, ``block1.add``) the name of its node in the graph,
        in the order of execution.

    Raises:
        ModelError: The model cannot be traced, or changes a view of a tensor in place.
    """
    root, graph, names = trace_copy(model)
    return fx.GraphModule(root, graph), names


def trace_copy(model: nn.Module, *, owned: bool = False) -> tuple[nn.Module, fx.Graph, dict[str, str]]:
    """Like :func:`symbolic_trace`, with the copy itself as the module that the graph refers to.

    With ``owned`` the model is used up instead of copied.
    """
    try:
        root = model if owned else copy.deepcopy(model)
    except Exception as error:
        raise ModelError(f"{_name(model)} cannot be copied: {type(error).__name__}: {error}") from error
    root = root.eval()
    tracer = _Tracer()
    try:
        graph = tracer.trace(root)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(_fault(error, root, tracer.failed_in)) from error
    names = {qualified: node.name for node, qualified in tracer.node_to_qualname.items()}
    functionalise(root, graph, {name: qualified for qualified, name in names.items()})
    _constants_to_buffers(root)
    kept = {node.name for node in graph.nodes}
    return root, graph, {qualified: name for qualified, name in names.items() if name in kept}


class _Tracer(feature_extraction.NodePathTracer):  # type: ignore[misc]
    """torchvision's tracer of qualified names, that also sees ``x += y`` and ``x[i] = y``."""

    def __init__(self) -> None:
        leaves = list(feature_extraction._get_leaf_modules_for_ops())
        functions: list[Callable[..., Any]] = []
        layers: Any = sys.modules.get("timm.layers")
        if layers is not None:  # a model of timm's has imported it
            leaves += layers.get_notrace_modules()
            functions += layers.get_notrace_functions()
        super().__init__(
            autowrap_modules=(math, torchvision.ops),
            autowrap_functions=tuple(functions),
            leaf_modules=leaves,
        )
        self.failed_in = ""  # the innermost module whose forward cannot be traced
        self._counts: dict[str, int] = {}
        self._module_names: set[str] = set()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or self.path_of_module(m)
            raise

    def _get_node_qualname(self, module_qualname: str, node: fx.Node) -> str:
        """The name that torchvision gives, except that a module called ``conv_1`` keeps that name.

        There it would be listed as ``conv``, and ``conv_1`` could mean ``conv_2``.
        """
        base = module_qualname
        if node.op != "call_module":
            base = ".".join(part for part in (module_qualname, re.sub(r"_[0-9]+$", "", str(node))) if part)
        if base not in self._counts:
            self._counts[base] = 0
            return base
        if not self._module_names:
            self._module_names = {name for name, _ in self.root.named_modules()}
        while True:
            self._counts[base] += 1
            name = f"{base}_{self._counts[base]}"
            if name not in self._module_names and name not in self._counts:
                self._counts[name] = 0
                return name

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """One placeholder, the image; every other parameter of ``forward`` keeps its default."""
        _, *parameters = inspect.signature(root_fn).parameters.values()
        needed = [p.name for p in parameters[1:] if p.default is p.empty and p.kind not in _VARIADIC]
        if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, _VARIADIC[1]):
            raise ModelError(f"{_name(self.root)} takes no input")
        if needed:
            raise ModelError(
                Fault(
                    f"{_name(self.root)} takes {len(needed) + 1} inputs: "
                    f"{', '.join([parameters[0].name, *needed])}",
                    hint="Wrap it in a module whose forward takes one tensor.",
                )
            )
        image = self.create_proxy("placeholder", parameters[0].name, (), {})
        return root_fn, [self.root, image]


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _constants_to_buffers(root: nn.Module) -> None:
    """Let tensors that the tracer has set on the module move with it from device to device."""
    for name, value in list(vars(root).items()):
        if name.startswith("_tensor_constant") and isinstance(value, torch.Tensor):
            delattr(root, name)
            root.register_buffer(name, value, persistent=False)


def _name(model: nn.Module) -> str:
    return type(model).__name__


def _fault(error: Exception, root: nn.Module, qualified: str) -> Fault:
    """Where in the model's own code tracing failed, and what it means."""
    place = f"in its forward (module '{qualified}')" if qualified else "in its forward"
    ours = ("torch/fx/", "torch/nn/modules/module.py", "feature_extraction.py", "pcgraph/tracing/")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename.replace("\\", "/") for part in ours):
            place += f", line {frame.lineno} of {frame.filename} (`{frame.line}`)"
            break
    hint = "A model is read by running it once on a stand-in for the image."
    text = str(error).partition("\n")[0]
    if "control flow" in text or "iterated" in text or "__len__" in text or isinstance(error, TypeError):
        hint = (
            "There the model decides by the image's values or size, or turns them into Python "
            "numbers. Compute it with tensor operations, or fix it when the model is built."
        )
    return Fault(f"{_name(root)} cannot be traced {place}: {text}", hint=hint)
