"""A model's own copy; wrappers are taken off where that is exact, and what cannot be read is refused."""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pcgraph.errors import Fault, ModelError

HOOKS = ("_forward_pre_hooks", "_forward_hooks")
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`'s and the parallel wrappers, which compute nothing of their own.

    Raises:
        ModelError: The wrapper has hooks or a forward of its own, which would be lost.
    """
    while (inner := _inside(model)) is not None:
        if any(vars(model)[hooks] for hooks in HOOKS) or ("forward" in vars(model) and not _compiled(model)):
            raise ModelError(
                Fault(
                    f"the {type(model).__name__} around {type(inner).__name__} "
                    "has hooks or a forward of its own",
                    hint="Put them on the module inside.",
                )
            )
        model = inner
    return model


def _inside(model: nn.Module) -> nn.Module | None:
    if isinstance(model, PARALLEL):
        inner: nn.Module = model.module
        return inner
    return model._orig_mod if _compiled(model) else None  # type: ignore[return-value]


def _compiled(model: nn.Module) -> bool:
    wrapper: Any = sys.modules.get("torch._dynamo.eval_frame")  # whoever compiled has imported it
    return wrapper is not None and isinstance(model, wrapper.OptimizedModule)


def refuse_unreadable(model: nn.Module) -> None:
    """Refuse by name the modules whose code cannot be read.

    Raises:
        ModelError: Scripted, quantised, sharded or lazy modules.
    """
    for name, module in model.named_modules():
        reason = _unreadable(module)
        if reason is not None:
            place = f"'{name}' ({type(module).__name__})" if name else type(module).__name__
            raise ModelError(Fault(f"{place} {reason[0]}", hint=reason[1]))


def _unreadable(module: nn.Module) -> tuple[str, str] | None:
    home = type(module).__module__
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    if isinstance(module, torch.jit.ScriptModule):
        return "is a TorchScript module", "Give the Python module that it was made from."
    if ".quantized" in home or "bitsandbytes" in home or any(tensor.is_quantized for tensor in tensors):
        return (
            "is quantised: its integer arithmetic has no gradient",
            "Give the model in floating point, before it was quantised.",
        )
    if type(module).__name__ == "FullyShardedDataParallel":
        return "has only a share of its weights", "Give the whole module."
    if any(is_lazy(tensor) for tensor in tensors):
        return (
            "is lazy: it has no weights before it has seen an image",
            "Run the model once, model(torch.zeros(1, ...)), before you hand it over.",
        )
    return None


def settle(model: nn.Module) -> nn.Module:
    """Put a model into eval mode; what a model in eval mode has left in train mode by itself stays so.

    Dropout that is switched on in a model of eval mode is meant to be on (Monte Carlo dropout). Batch norm is
    always in eval mode, or images would depend on each other.
    """
    if model.training:
        return model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def copy_model(model: nn.Module) -> nn.Module:
    """A copy that shares no tensor with ``model``, whatever the model keeps in its attributes.

    What ``copy.deepcopy`` refuses is dealt with: tensors with a history (kept features, weight norm,
    pruning) become plain ones, and attributes that cannot be copied, such as locks, are shared.
    Functions put on a module (hooks, ``forward``) that hold a part of the model get the copy's part.

    Raises:
        ModelError: It cannot be copied all the same.
    """
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in _computed(model)}
    for module in model.modules():
        if (inner := _inside(module)) is not None:
            memo[id(module)] = copy_model(unwrap(inner)) if module is not model else None
    try:
        copied = copy.deepcopy(model, dict(memo))
    except Exception:
        _share_uncopied(model, memo)
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}"
        ) from error
    for module in copied.modules():
        _rebind_functions(module, memo)
    return copied


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """The tensors with a history that the modules keep in their attributes, however deep."""
    seen: set[int] = set()
    todo: list[Any] = [value for module in model.modules() for value in vars(module).values()]
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, (nn.Module, type, types.ModuleType, types.FunctionType)):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if not value.is_leaf:
                yield value
        elif isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, (list, tuple, set)):
            todo += value
        elif hasattr(value, "__dict__"):
            todo += vars(value).values()


def _share_uncopied(model: nn.Module, memo: dict[int, Any]) -> None:
    for module in model.modules():
        for key, value in vars(module).items():
            if key not in ("_modules", "_parameters", "_buffers"):
                try:
                    copy.deepcopy(value, dict(memo))
                except Exception:
                    memo[id(value)] = value


def _rebind_functions(module: nn.Module, memo: Mapping[int, Any]) -> None:
    for key, value in list(vars(module).items()):
        if isinstance(value, (types.FunctionType, types.MethodType)):
            vars(module)[key] = _rebound(value, memo)
    for hooks in HOOKS:
        table = vars(module)[hooks]
        for key, value in table.items():
            table[key] = _rebound(value, memo)


def _rebound(value: Any, memo: Mapping[int, Any]) -> Any:
    """A function that holds parts of the model in its closure, with the copy's parts instead."""
    if isinstance(value, types.MethodType):
        return types.MethodType(_rebound(value.__func__, memo), memo.get(id(value.__self__), value.__self__))
    if isinstance(value, functools.partial):
        given = [_rebound(part, memo) for part in value.args]
        named = {key: _rebound(part, memo) for key, part in value.keywords.items()}
        return functools.partial(_rebound(value.func, memo), *given, **named)
    if not isinstance(value, types.FunctionType):
        return memo.get(id(value), value)
    held = [_content(cell) for cell in value.__closure__ or ()]
    new = [_rebound(content, memo) for content in held]
    if all(one is other for one, other in zip(held, new, strict=True)):
        return value
    cells = tuple(types.CellType(content) if content is not _EMPTY else types.CellType() for content in new)
    return _with_cells(value, cells)


_EMPTY = object()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _EMPTY


def _with_cells(function: Callable[..., Any], cells: tuple[types.CellType, ...]) -> Callable[..., Any]:
    assert isinstance(function, types.FunctionType)
    made = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(made, function)
