"""Functions that are compiled ahead of time, and loaded by later processes.

What is looked up is what is run: a function is traced in each process, and the key of its package is made of
every operation of the trace and every number of its weights. The trace takes a twentieth of the time that
compiling takes.
"""

from __future__ import annotations

import ast
import hashlib
import operator
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from pcgraph.display.logs import without_log
from pcgraph.files.cache import Cache

PACKAGE = "package.pt2"
FORMAT = 1
"""Goes up when packages are made in another way."""


class UnfitError(Exception):
    """Something about a function that no package can hold."""


class Package:
    """A compiled function.

    Attributes:
        run: From the tensors of the arguments to those of the results.
        form: The results, with the place of each tensor instead of it.
    """

    def __init__(self, run: Callable[..., list[Tensor]], form: Any) -> None:
        self.run, self.form = run, form

    def __call__(self, *arguments: Any) -> Any:
        """The results of the function that it was made of."""
        results = self.run(*_tensors(arguments))
        return tree_map(lambda place: None if place is None else results[place], self.form)


def load_or_make(function: Callable[..., Any], arguments: tuple[Any, ...], kept: Cache) -> Package:
    """The package of a function for arguments of these shapes.

    Args:
        function: A function of tensors, in any nesting; it is not differentiated.
        arguments: Such as it will be called with; what is no tensor will be the same.
        kept: Where packages are.

    Raises:
        UnfitError: It returns what is neither a tensor nor made of them, or the package could not be kept.
        Exception: Whatever torch raises where it cannot trace or compile it.
    """
    device = _device(arguments)
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    # autocast keeps the weights that it has cast, and the stand-ins of a trace are not to be kept
    with torch.no_grad(), torch.autocast(device, dtype, enabled, cache_enabled=False):
        program, form = _trace(function, arguments)
    key = _key(program, form)
    entry = kept.find(key) or kept.keep(key, partial(_write, program, _tensors(arguments)))
    if entry is None:
        raise UnfitError("its package could not be kept")
    with _quiet():
        run = torch._inductor.aoti_load_package(str(entry.path / PACKAGE))
    return Package(run, form)


def _trace(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[fx.GraphModule, Any]:
    """All operations of a function, and what it returns with places instead of tensors."""
    from torch.fx.experimental.proxy_tensor import make_fx

    leaves, structure = tree_flatten(arguments)
    form: Any = None

    def flat(*tensors: Tensor) -> list[Tensor]:
        nonlocal form
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        results, shape = tree_flatten(function(*tree_unflatten(filled, structure)))
        found = [result for result in results if isinstance(result, Tensor)]
        if len(found) != sum(result is not None for result in results):
            raise UnfitError("a result is no tensor")
        places = iter(range(len(found)))
        form = tree_unflatten([None if result is None else next(places) for result in results], shape)
        return found

    trace = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)
    with patch.object(torch.compiler, "_is_compiling_flag", True):
        program = trace(*_tensors(arguments))
    program.graph.eliminate_dead_code()
    program.recompile()
    if any(_draws(node) for node in program.graph.nodes):
        raise UnfitError("it draws random numbers")
    try:
        plain = ast.literal_eval(repr(form))
    except (ValueError, SyntaxError):
        raise UnfitError("its results are in a type of their own") from None
    return program, plain


def _draws(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _write(program: fx.GraphModule, tensors: list[Tensor], folder: Path) -> Mapping[str, Any]:
    """Compile a trace into a folder."""
    with torch.no_grad(), torch.autocast(_device(tensors), enabled=False), _quiet():
        exported = torch.export.export(program, tuple(tensors))
        torch._inductor.aoti_compile_and_package(
            exported, package_path=str(folder / PACKAGE), inductor_configs={"freezing": True}
        )
    return {"operations": len(program.graph.nodes), "torch": torch.__version__}


def _key(program: fx.GraphModule, form: Any) -> str:
    """A digest of all that the compiled code depends on."""
    found = hashlib.sha256(repr((FORMAT, form, machine(), torch.get_num_threads())).encode())
    for node in program.graph.nodes:
        found.update(repr((node.name, node.op, str(node.target), str(node.args), str(node.kwargs))).encode())
        if node.op == "placeholder":
            found.update(_layout(node.meta["val"]))
        if node.op == "get_attr":
            constant = operator.attrgetter(node.target)(program)
            if not isinstance(constant, Tensor):
                raise UnfitError("a part of it is a graph of its own")
            found.update(_layout(constant))
            found.update(constant.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _layout(value: Tensor) -> bytes:
    return repr((tuple(value.shape), value.stride(), value.dtype, value.device)).encode()


@cache
def machine() -> tuple[str, ...]:
    """What code is generated for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    except OSError:
        about = [platform.processor()]
    return (torch.__version__, torch.backends.cpu.get_cpu_capability(), platform.platform(), *about)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _device(values: Any) -> str:
    return next((tensor.device.type for tensor in _tensors(values)), "cpu")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch logs while it looks for compilers."""
    with without_log("torch.utils.cpp_extension"), without_log("torch.export"):
        yield
