"""Functions that are compiled ahead of time, and loaded by later processes.

What is looked up is what is run: each process lets a function run once on tensors without numbers, and the
key of its package is made of every operation and of every number of its weights.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from pcgraph.simulation.copied_constants import page_out_constants
from pcgraph.simulation.operations import Operations, UnfitError
from pcgraph.simulation.shortening import shortened
from pcgraph.simulation.toolchain import require_compiler
from pcgraph.tracing.numberless import numberless

PACKAGE = "package.pt2"
FORMAT = 4
"""Goes up when packages are made in another way."""
OPTIONS = {"freezing": True, "unroll_reductions_threshold": 1}
"""Weights are packed, and no sum of a tile's transform is made again for each value that reads it."""

_ALONE = threading.RLock()
"""Held while a package is looked up or made: all threads are told then that what they do is compiled."""


class Package:
    """A compiled function.

    Attributes:
        run: From the tensors of the arguments to those of the results.
        form: The results, with the place of each tensor instead of it.
        path: Its file.
        lent: What the function in the file takes besides.
    """

    def __init__(
        self, run: Callable[..., list[Tensor]], form: Any, path: Path, lent: Sequence[Tensor] = ()
    ) -> None:
        self.run, self.form, self.path, self.lent = run, form, path, lent

    def __call__(self, *arguments: Any) -> Any:
        """The results of the function that it was made of."""
        results = self.run(*_tensors(arguments))
        return tree_map(lambda place: None if place is None else results[place], self.form)


def load_or_make(
    function: Callable[..., Any], arguments: tuple[Any, ...], kept: Cache, shorten: bool = False
) -> Package:
    """The package of a function for arguments of these shapes.

    Args:
        function: A function of tensors, in any nesting; it is not differentiated.
        arguments: Such as it will be called with; what is no tensor will be the same.
        kept: Where packages are.
        shorten: Whether to look for what need not be computed; of many steps that is a part, of one nothing.

    Raises:
        UnfitError: It returns what is neither a tensor nor made of them, or draws; or the package could not
            be kept.
        NoCompilerError: There is no such package yet, and nothing to make it with.
        Exception: Whatever torch raises where it cannot trace or compile it.
    """
    device = _device(arguments)
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    flat = _Flat(function, arguments)
    # autocast keeps the weights that it has cast, and the stand-ins of a trace are not to be kept
    as_it_is = torch.autocast(device, dtype, enabled, cache_enabled=False)
    with _ALONE:
        with torch.no_grad(), as_it_is, _as_if_compiled():
            key, lent = _key(flat, shorten)
            entry = kept.find(key)
            program = None
            if entry is None:
                require_compiler(device)
                program = _trace(flat, lent)
                program = shortened(program, [*flat.tensors, *lent]) if shorten else program
        if program is not None:
            entry = kept.keep(key, partial(_write, program, [*flat.tensors, *lent]))
    if entry is None:
        raise UnfitError(f"nothing can be kept in {kept.folder}, where only its owner may write")
    path = entry.path / PACKAGE
    # as torch._inductor.aoti_load_package, which first imports the compiler; and its model looks up the form
    # of arguments and results, which are plain lists here, at each call
    loaded = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    page_out_constants()

    def run(*tensors: Tensor) -> list[Tensor]:
        return loaded.boxed_run([*tensors, *lent])

    return Package(run, flat.form, path, lent)


class _Flat:
    """A function from tensors to tensors.

    Attributes:
        tensors: Those among the arguments; one that comes twice is there twice, as later calls may give two.
        form: The results, with the place of each tensor instead of it; known once it has run.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._leaves, self._structure = tree_flatten(arguments)
        self.tensors = _apart(_tensors(arguments))
        self.form: Any = None

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        results, shape = tree_flatten(self._function(*tree_unflatten(filled, self._structure)))
        found = [result for result in results if isinstance(result, Tensor)]
        if len(found) != sum(result is not None for result in results):
            raise UnfitError("a result is no tensor")
        places = iter(range(len(found)))
        form = tree_unflatten([None if result is None else next(places) for result in results], shape)
        try:
            self.form = ast.literal_eval(repr(form))
        except (ValueError, SyntaxError):
            raise UnfitError("its results are in a type of their own") from None
        return found


def _key(flat: _Flat, shorten: bool = False) -> tuple[str, list[Tensor]]:
    """A digest of all that the compiled code depends on, and what is lent to it."""
    with numberless() as shapes:
        given = [shapes.from_tensor(tensor, static_shapes=True) for tensor in flat.tensors]
        operations = Operations(given)
        with operations:
            results = flat(*given)
    places = [operations.name(result) for result in results]
    here = (machine(), torch.get_num_threads(), torch.get_float32_matmul_precision())
    found = hashlib.sha256(repr((FORMAT, shorten, flat.form, places, *here)).encode())
    found.update(operations.digest)
    return found.hexdigest(), [matrix.detach() for matrix in operations.lent]


def _trace(flat: _Flat, lent: Sequence[Tensor] = ()) -> fx.GraphModule:
    """All operations of a function as a graph, whose last arguments are what is lent."""
    from torch.fx.experimental.proxy_tensor import make_fx

    program = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*flat.tensors)
    _lend(program, lent)
    _without_alpha(program.graph)
    program.graph.eliminate_dead_code()
    program.recompile()
    return program


def _lend(program: fx.GraphModule, lent: Sequence[Tensor]) -> None:
    """Constants become further arguments.

    Raises:
        UnfitError: One is not there as it is; a package with its numbers would be found for others.
    """
    graph = program.graph
    constants = {node: getattr(program, node.target) for node in graph.find_nodes(op="get_attr")}
    first = next(node for node in graph.nodes if node.op != "placeholder")
    for index, tensor in enumerate(lent):
        with graph.inserting_before(first):
            argument = graph.placeholder(f"lent_{index}")
        same = [n for n, one in constants.items() if isinstance(one, Tensor) and one.is_set_to(tensor)]
        if not same:
            raise UnfitError("a large matrix is not read as it is")
        for node in same:
            node.replace_all_uses_with(argument)
    graph.eliminate_dead_code()
    for name in {node.target for node in constants} - {n.target for n in graph.find_nodes(op="get_attr")}:
        delattr(program, name)


def _without_alpha(graph: fx.Graph) -> None:
    """``x + alpha * y`` in two operations: compiling, torch (2.14) forgets the alpha of a matrix product."""
    add, multiply = torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor
    for node in graph.find_nodes(op="call_function", target=add):
        if "alpha" in node.kwargs:
            with graph.inserting_before(node):
                product = graph.call_function(multiply, (node.args[1], node.kwargs["alpha"]))
            node.args, node.kwargs = (node.args[0], product), {}


def _write(program: fx.GraphModule, tensors: list[Tensor], folder: Path) -> Mapping[str, Any]:
    """Compile a trace into a folder."""
    with torch.no_grad(), torch.autocast(_device(tensors), enabled=False), _quiet():
        exported = torch.export.export(program, tuple(tensors))
        options = {**OPTIONS, "freezing": not _in_float64(program)}
        path = str(folder / PACKAGE)
        torch._inductor.aoti_compile_and_package(exported, package_path=path, inductor_configs=options)
    return {"operations": len(program.graph.nodes), "torch": torch.__version__}


def _in_float64(program: fx.GraphModule) -> bool:
    """Whether there are weights that the processor's library cannot pack."""
    weights = [getattr(program, node.target) for node in program.graph.find_nodes(op="get_attr")]
    return any(isinstance(one, Tensor) and one.dtype == torch.float64 for one in weights)


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


def _apart(tensors: list[Tensor]) -> list[Tensor]:
    """Tensors that lie in memory as these, no two of which are one: a trace reads those as one argument."""
    known = {id(one): place for place, one in reversed([*enumerate(tensors)])}

    def another(one: Tensor) -> Tensor:
        return torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device=one.device)

    return [one if known[id(one)] == place else another(one) for place, one in enumerate(tensors)]


def _device(values: Any) -> str:
    return next((tensor.device.type for tensor in _tensors(values)), "cpu")


@contextmanager
def _as_if_compiled() -> Iterator[None]:
    """Whoever asks is told that this is compiled, and leaves out what looks at numbers."""
    with patch.object(torch.compiler, "_is_compiling_flag", True):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch logs while it looks for compilers."""
    with without_log("torch.utils.cpp_extension"), without_log("torch.export"):
        yield
