"""A predictor written as Python constructor calls, taken apart without running it."""

from __future__ import annotations

import ast
from typing import Any

from pcgraph.errors import closest
from pcgraph.spec.layers import LAYERS
from pcgraph.spec.source import show

IN_PLACE = (
    "Dropout",
    "ELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "Mish",
    "ReLU",
    "ReLU6",
    "SiLU",
)
"""Layers whose last positional argument is ``inplace``."""


class PredictorTextError(Exception):
    """What is wrong with a predictor's text, and at which character of it (from 1)."""

    def __init__(self, message: str, column: int, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.hint = hint


def parse_predictor(text: str) -> list[dict[str, Any] | str]:
    """A constructor call such as ``Sequential(nn.ConvTranspose2d(8, 3, 5), ReLU())`` as layers of a spec.

    Positional arguments get their names, tuples become lists, `inplace` is dropped.

    Raises:
        PredictorTextError: The text is something other than calls of known layers with plain values.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise PredictorTextError(f"not valid Python: {error.msg}", max(1, error.offset or 1)) from None
    except (ValueError, RecursionError, MemoryError):
        raise PredictorTextError("not valid Python", 1) from None
    return _layers(tree.body, text)


def _layers(node: ast.expr, text: str) -> list[dict[str, Any] | str]:
    if not isinstance(node, ast.Call):
        raise _unexpected("expected a layer such as ReLU()", node, text)
    name = _layer_name(node.func, text)
    if name == "Sequential":
        for keyword in node.keywords:
            raise _unexpected("expected layers alone", keyword.value, text)
        if not node.args:
            raise _unexpected("expected at least one layer", node, text)
        return [layer for argument in node.args for layer in _layers(argument, text)]
    return [_layer(name, node, text)]


def _layer_name(node: ast.expr, text: str) -> str:
    written = ast.get_source_segment(text, node) or ""
    name = "".join(written.split()).removeprefix("torch.").removeprefix("nn.")
    if not isinstance(node, (ast.Name, ast.Attribute)) or (name not in LAYERS and name != "Sequential"):
        hint = closest(name, ("Sequential", *LAYERS))
        raise PredictorTextError(f"unknown layer {show(written)}", _column(node, text), hint)
    return name


def _layer(name: str, call: ast.Call, text: str) -> dict[str, Any] | str:
    known = [*LAYERS[name], *(["inplace"] if name in IN_PLACE else [])]
    arguments: dict[str, Any] = {}
    for index, value in enumerate(call.args):
        if index >= len(known):
            message = f"{name} takes at most {len(known)} arguments by position"
            raise PredictorTextError(message, _column(value, text))
        arguments[known[index]] = _value(value, text)
    for keyword in call.keywords:
        column = _column(keyword, text)
        if keyword.arg is None:
            raise PredictorTextError("'**' needs a program to run", column, "Write the arguments out.")
        if keyword.arg not in known:
            hint = closest(keyword.arg, known) if known else f"{name} takes no arguments."
            raise PredictorTextError(f"unknown argument '{keyword.arg}' of {name}", column, hint)
        if keyword.arg in arguments:
            raise PredictorTextError(f"'{keyword.arg}' of {name} is given twice", column)
        arguments[keyword.arg] = _value(keyword.value, text)
    arguments.pop("inplace", None)
    arguments = {key: value for key, value in arguments.items() if value is not None}
    return {name: arguments} if arguments else name


def _value(node: ast.expr, text: str) -> Any:
    """A number, text, true or false, None, or a tuple or list of numbers (as a list)."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise _unexpected("expected a plain value", node, text) from None
    items = value if isinstance(value, (tuple, list)) else [value]
    if not all(isinstance(item, (bool, int, float, str, type(None))) for item in items):
        raise _unexpected("expected a plain value", node, text)
    return list(value) if isinstance(value, tuple) else value


def _column(node: ast.expr | ast.keyword, text: str) -> int:
    """The character of ``text`` at which a node begins, from 1; ast counts UTF-8 bytes of a line."""
    lines = text.splitlines(keepends=True)
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode(errors="replace")
    return sum(map(len, lines[: node.lineno - 1])) + len(before) + 1


def _unexpected(expected: str, node: ast.expr, text: str) -> PredictorTextError:
    written = ast.get_source_segment(text, node) or ""
    return PredictorTextError(f"{expected}, got {show(written)}", _column(node, text))
