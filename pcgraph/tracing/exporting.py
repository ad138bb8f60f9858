"""From a model to a graph of ATen operations, by `torch.export`: for what symbolic tracing cannot read.

The model runs on fake tensors that know their shape and type, so it may ask for them; only the number of
images stays open. Names follow the module of each operation and the function that its code called.
"""

from __future__ import annotations

import contextlib
import io
import math
import operator
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.distributions import Distribution
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from pcgraph.display.logs import without_log
from pcgraph.errors import ModelError
from pcgraph.tracing.draws import replace_draw, without_generators
from pcgraph.tracing.lengths import known_constants, open_lengths
from pcgraph.tracing.names import Numbering, avoid_keywords, keywords_in_code
from pcgraph.tracing.outputs import choose, follow, plain
from pcgraph.tracing.placing import place_by_image
from pcgraph.tracing.random_operations import draws
from pcgraph.tracing.shapes import BATCH, like_weights
from pcgraph.tracing.snapshot import Snapshot
from pcgraph.tracing.tracer import failure, image_parameter, leaf_kinds, quiet_contexts

MOST = 1 << 16  # images in a batch
ROOT = "model"
# Functions of Python's operators, and what symbolic tracing calls them.
OPERATORS = re.compile(r"^[ri](add|sub|mul|truediv|floordiv|mod|pow|matmul|and|or|xor|lshift|rshift)$")


def export(
    root: nn.Module, input_shape: tuple[int, ...], constants: Mapping[str, Any], output: str | None
) -> tuple[fx.Graph, dict[str, str]]:
    """Like `trace_symbolically`, with the chosen output as the graph's, and ``root`` as it was.

    Nodes have ``meta["place"]``, the name of the node whose value they help to compute, and ``meta["op"]``,
    the kind of module or function that it is.

    Raises:
        ModelError: The model cannot be read so either.
    """
    parameter = image_parameter(root, constants)
    before = Snapshot(root)
    try:
        with (
            quiet_contexts(),
            _without_validation(),
            _without_log(),
            without_generators(root),
            open_lengths(),
            keywords_in_code(),
            known_constants(),
        ):
            program = _export(_OneOutput(root, constants, output), input_shape)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(failure(error, root)) from error
    finally:
        before.restore()
    graph = _adopt(program, root, parameter)
    names = _name_places(graph, root)
    place_by_image(graph, like_weights(root)[1])
    avoid_keywords(root, graph)
    for node in graph.nodes:  # the rest is of the export, and cannot be pickled
        node.meta = {key: node.meta[key] for key in ("place", "op") if key in node.meta}
    graph.lint()
    return graph, names


@contextlib.contextmanager
def _without_validation() -> Iterator[None]:
    """Distributions look at every number that they are given, which can only end in an error."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """What the export cannot do, our error says; torch prints the graph."""
    log = without_log("torch.fx.experimental.symbolic_shapes")
    with log, contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attribute")  # that it keeps is undone
        yield


class _OneOutput(nn.Module):
    def __init__(self, model: nn.Module, constants: Mapping[str, Any], output: str | None) -> None:
        super().__init__()
        self.model = model
        self.constants = dict(constants)
        self.output = output

    def forward(self, x: Tensor) -> Any:
        given = plain(self.model(x, **self.constants))

        def shape(part: Any) -> tuple[int, ...] | None:
            return tuple(part.shape[1:]) if isinstance(part, Tensor) and part.ndim else None

        return follow(given, choose(given, shape, self.output))


def _export(model: nn.Module, input_shape: tuple[int, ...]) -> ExportedProgram:
    dtype, device = like_weights(model)
    image = torch.zeros((BATCH, *input_shape), dtype=dtype, device=device)
    batch = {0: Dim("batch", min=1, max=MOST)}
    program = torch.export.export(model, (image,), strict=False, dynamic_shapes=(batch,))
    # nothing is decomposed, nor in place, but attention that drops (what it draws has to be seen), and copies
    functional: ExportedProgram = program.run_decompositions({ATTENTION: _attention, COPY: _copy})
    return functional


ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
COPY = torch.ops.aten.copy.default


def _copy(x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What ``x`` is after ``x.copy_(source)``; torch has no derivative of its own form of it."""
    return source.to(x.device, x.dtype).expand_as(x)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention with dropout as torch computes it without a fused kernel."""
    if dropout_p == 0 or enable_gqa:
        return NotImplemented
    half = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = (query * half) @ (key.transpose(-2, -1) * half)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights, _ = torch.ops.aten.native_dropout.default(scores.softmax(dim=-1), dropout_p, True)
    return weights @ value


def _adopt(program: ExportedProgram, root: nn.Module, parameter: str) -> fx.Graph:
    """The program's graph, with the weights of ``root`` in the place of its own."""
    graph = fx.Graph()
    tensors = dict(_weights(program, root))
    made: dict[fx.Node, Any] = {}
    drawn: list[fx.Node] = []
    for node in program.graph.nodes:
        if node.op == "output":
            (kept,) = [
                result
                for result, spec in zip(node.args[0], program.graph_signature.output_specs, strict=True)
                if spec.kind is OutputKind.USER_OUTPUT
            ]
            graph.output(made[kept] if isinstance(kept, fx.Node) else kept)
        elif node.op == "placeholder":
            image = node.name not in tensors
            made[node] = graph.placeholder(parameter) if image else graph.get_attr(tensors[node.name])
            made[node].meta.update(node.meta if image else {})
        elif node.op == "get_attr":  # the body of a control-flow operation
            name = f"_exported_{node.target}"
            root.add_module(name, getattr(program.graph_module, str(node.target)))
            made[node] = graph.get_attr(name)
        else:
            made[node] = graph.node_copy(node, made.__getitem__)
            if node.target is torch.ops.aten.view.default:  # its strides may be others on another device
                made[node].target = torch.ops.aten.reshape.default
            if draws(node.target, node.args, node.kwargs):
                drawn.append(made[node])
            if _without_gradient(node):
                made[node] = graph.call_function(torch.ops.aten.detach.default, (made[node],))
                made[node].meta = dict(node.meta)
    image = graph.find_nodes(op="placeholder")[0]
    for number, node in enumerate(drawn):
        replace_draw(node, image, number, _inside(node, root))
    for node in reversed(list(graph.nodes)):  # what only checks, and writes into buffers
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    return graph


def _inside(node: fx.Node, root: nn.Module) -> str:
    """The module that an operation is in, for people."""
    path = (_stack(node) or [("", "")])[-1][1]
    kind = type(root.get_submodule(path)).__name__ if path in dict(root.named_modules()) else ""
    return f"'{path}' ({kind})" if path else type(root).__name__


def _weights(program: ExportedProgram, root: nn.Module) -> Iterator[tuple[str, str]]:
    """For each placeholder that is no image the name of its tensor in ``root``."""
    for place, spec in enumerate(program.graph_signature.input_specs):
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            yield spec.arg.name, str(spec.target).removeprefix(f"{ROOT}.")
        elif spec.kind is not InputKind.USER_INPUT:
            name = f"_constant_{place}"
            value = program.constants[str(spec.target)]
            assert isinstance(value, Tensor)
            root.register_buffer(name, value.detach(), persistent=False)
            yield spec.arg.name, name


def _without_gradient(node: fx.Node) -> bool:
    """Whether the node was inside a ``no_grad`` block, which the export has dissolved."""
    within = str(node.meta.get("torch_fn", ("", ""))[1]).startswith("WrapWithSetGradEnabled")
    return within and isinstance(node.meta.get("val"), Tensor)


# names ---------------------------------------------------------------------------------------------


def _name_places(graph: fx.Graph, root: nn.Module) -> dict[str, str]:
    kinds = tuple(leaf_kinds())
    modules = dict(root.named_modules())
    calls: dict[fx.Node, tuple[object, str, str]] = {}
    for node in graph.nodes:
        if node.op == "call_function" and _holds_tensor(node.meta.get("val")):
            calls[node] = _module_call(node, modules, kinds) or _function_call(node)
    ends = _ends(calls)
    for node, (call, _, _) in list(calls.items()):  # modules that give several values: each its own place
        if call not in ends:
            calls[node] = _function_call(node)
    ends = _ends(calls)
    numbering, names = Numbering(modules), {}
    for node in graph.nodes:
        if node.op == "placeholder":
            names[numbering.name(str(node.target))] = node.name
        elif node in calls:
            call, base, op = calls[node]
            end = ends.get(call, node)
            node.meta.update(place=end.name, op=op)
            if node is end:
                names[numbering.name(base)] = node.name
    return names


def _ends(calls: Mapping[fx.Node, tuple[object, str, str]]) -> dict[object, fx.Node]:
    """The value of each call: the one node of it that others read."""
    read: dict[object, list[fx.Node]] = {}
    for node, (call, _, _) in calls.items():
        if any(user not in calls or calls[user][0] != call for user in node.users):
            read.setdefault(call, []).append(node)
    return {call: nodes[0] for call, nodes in read.items() if len(nodes) == 1}


def _stack(node: fx.Node) -> list[tuple[str, str]]:
    """Each module call around an operation: a key of the call, and the module's name."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [(key, path) for key, (path, _) in stack.items()]
    return [(key, path.removeprefix(ROOT).removeprefix(".")) for key, path in names]


def _module_call(
    node: fx.Node, modules: Mapping[str, nn.Module], kinds: tuple[type[nn.Module], ...]
) -> tuple[object, str, str] | None:
    for key, path in _stack(node):
        module = modules.get(path)
        if path and module is not None and _is_leaf(module, kinds):
            return key, path, type(module).__name__
    return None


def _is_leaf(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    torchs = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
    return isinstance(module, kinds) or (torchs and not isinstance(module, nn.Sequential))


def _function_call(node: fx.Node) -> tuple[object, str, str]:
    key, path = (_stack(node) or [("", "")])[-1]
    unique, function = node.meta.get("torch_fn", (node.name, ""))
    op = OPERATORS.sub(r"\1", str(function).rpartition(".")[2].strip("_"))
    if str(function).startswith("Wrap") or op in ("", "get", "default"):
        unique, op = node.name, ""
    if node.target is operator.getitem:
        unique, op = node.name, "getitem"
    if not op:
        target: Any = node.target
        op = str(getattr(target, "_schema", target.__name__)).partition("(")[0]
        op = op.rpartition("::")[2].partition(".")[0].strip("_")
    return (key, unique), ".".join(part for part in (path, op) if part), op


def _holds_tensor(value: Any) -> bool:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(part, Tensor) for part in parts)
