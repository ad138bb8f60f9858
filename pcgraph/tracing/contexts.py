"""``no_grad`` and ``autocast`` blocks and functions with a backward of their own, kept in a traced graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Context:
    """What a block around an operation sets, where it differs from what was set around the model.

    Attributes:
        gradient: Whether operations are recorded for the gradient; None where nobody says.
        autocast: Device type, type and whether autocast is on.
    """

    gradient: bool | None = None
    autocast: tuple[tuple[str, torch.dtype, bool], ...] = ()

    @staticmethod
    def now() -> Context:
        """What is set here and now."""
        records = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        casts = [(d, torch.get_autocast_dtype(d), torch.is_autocast_enabled(d)) for d in DEVICES]
        return Context(records, tuple(casts))

    def since(self, outer: Context) -> Context:
        """What a block has changed."""
        gradient = None if self.gradient == outer.gradient else self.gradient
        return Context(gradient, tuple(cast for cast in self.autocast if cast not in outer.autocast))

    @contextlib.contextmanager
    def set(self) -> Iterator[None]:
        """The block itself."""
        with contextlib.ExitStack() as stack:
            if self.gradient is not None:
                stack.enter_context(torch.set_grad_enabled(self.gradient))
            for device, dtype, on in self.autocast:
                stack.enter_context(torch.autocast(device, dtype, enabled=on))
            yield


NOTHING = Context()


@dataclass(frozen=True)
class InContext:
    """A function that is called inside a block."""

    function: Callable[..., Any]
    context: Context

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", "function")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        with self.context.set():
            return self.function(*args, **kwargs)


@dataclass(frozen=True)
class CustomFunction:
    """An ``autograd.Function``: its backward need not be the derivative of its forward."""

    kind: type[torch.autograd.Function]

    @property
    def __name__(self) -> str:
        return self.kind.__name__

    def __call__(self, *args: Any) -> Any:
        """Apply it."""
        return self.kind.apply(*args)


def call_module(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """``module(...)`` as a function."""
    return module(*args, **kwargs)


def call_method(x: Tensor, method: str, *args: Any, **kwargs: Any) -> Any:
    """``x.method(...)`` as a function."""
    return getattr(x, method)(*args, **kwargs)


def keep_contexts(graph: fx.Graph) -> None:
    """Let every node that was traced inside a block, as its ``meta`` says, be computed inside one."""
    for node in list(graph.nodes):
        context: Context = node.meta.get("context", NOTHING)
        if context == NOTHING or node.op not in ("call_module", "call_method", "call_function"):
            continue
        function: Any = node.target
        if node.op == "call_module":
            with graph.inserting_before(node):
                module = graph.get_attr(str(node.target))
            function, node.args = call_module, (module, *node.args)
        elif node.op == "call_method":
            first, *rest = node.args
            function, node.args = call_method, (first, str(node.target), *rest)
        node.op, node.target = "call_function", InContext(function, context)


@contextlib.contextmanager
def custom_functions(
    called: Callable[[type[torch.autograd.Function], tuple[Any, ...]], Any],
) -> Iterator[None]:
    """Ask ``called`` first about every ``autograd.Function`` that is applied.

    What it returns is the result; NotImplemented means that the function is applied as usual.
    """
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        result = called(cls, args)
        return original.__get__(None, cls)(*args, **kwargs) if result is NotImplemented else result

    torch.autograd.Function.apply = classmethod(apply)
    try:
        yield
    finally:
        torch.autograd.Function.apply = original
