"""The kinds of values in a spec, each with what it refuses and why."""

from __future__ import annotations

import keyword
import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Strict,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from pcgraph.errors import closest
from pcgraph.spec.layers import Layer
from pcgraph.spec.source import show

NO_WEIGHTS = ("", "none", "null", "no", "false")


def refuse(message: str, hint: str = "") -> PydanticCustomError:
    """The error of a validator, to be raised; faults.py makes a fault of it."""
    return PydanticCustomError("fault", "{message}", {"message": message, "hint": hint})


def _node_name(name: str) -> str:
    if keyword.iskeyword(name):
        raise refuse(f"'{name}' is a word of Python and cannot name a node", f"For example '{name}_'.")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        hint = "Letters, digits and '_', not beginning with a digit"
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = plain if not plain[:1].isdigit() else f"n{plain}"
        example = f", for example '{plain}'" if plain else ""
        raise refuse(f"'{name}' cannot name a node", f"{hint}{example}.")
    return name


def spec_name(name: str) -> str:
    """Refuse a name that cannot be a folder's."""
    if not name.strip() or name in (".", "..") or re.search(r"[/\\\x00-\x1f]", name):
        raise refuse(f"{show(name)} cannot name a spec", "It names folders: no '/', '\\' or line breaks.")
    return name


def _python_object(text: str) -> str:
    if not re.fullmatch(r"python:[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        raise refuse(f"'{text}' names no Python object", "Write 'python:PACKAGE.MODULE:NAME'.")
    return text


LIBRARIES = ("torchvision", "timm", "transformers", "pcgraph")


def model_name(text: str) -> str:
    """Refuse what is not ``LIBRARY:NAME``."""
    scheme, colon, name = text.partition(":")
    if colon and scheme == "python":
        return _python_object(text)
    if colon and scheme in LIBRARIES and name.strip():
        return text
    if not colon:
        hint = f"Write 'torchvision:{text}' or 'timm:{text}'." if text.strip() else ""
        raise refuse(f"'{text}' does not say which library the model is from", hint)
    if not name.strip():
        raise refuse(f"'{text}' names no model", f"Write '{scheme}:NAME'.")
    raise refuse(f"unknown library '{scheme}'", closest(scheme, (*LIBRARIES, "python")))


def weights_name(value: Any) -> Any:
    """The ways in which people write that there are no weights."""
    none = value is False or (isinstance(value, str) and value.strip().lower() in NO_WEIGHTS)
    return None if none else value


def _argument(value: Any) -> Any:
    if not isinstance(value, (bool, int, float, str)):
        raise refuse(f"expected a number, text, true or false, got {show(value)}")
    if isinstance(value, str) and value.lower() in ("yes", "no", "on", "off", "true", "false"):
        meant = "true" if value.lower() in ("yes", "on", "true") else "false"
        raise refuse(f"expected true or false, got the text '{value}'", f"Write {meant}, without quotes.")
    return value


def sources_form(value: Any) -> str:
    """Which form of `source` is meant: its tag."""
    return "<several>" if isinstance(value, list) else "<one>"


def _predictor_form(value: Any) -> str:
    return "<layers>" if isinstance(value, list) else "<word>"


def _predictor_word(value: Any) -> Any:
    """Everything that is no list of layers is ``auto``, ``python:...`` or a mistake."""
    if value == "auto":
        return value
    if isinstance(value, str) and value.startswith("python:"):
        return _python_object(value)
    message = f"expected 'auto', a list of layers or 'python:...', got {show(value)}"
    if isinstance(value, str):
        near = closest(value, ("auto",))
        raise refuse(message, near if near.startswith("Did") else f"A list has brackets: [{value}].")
    raise refuse(message, "Put the layer in a list." if isinstance(value, dict) else "")


def _precision_form(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "<list>"
    return "<word>" if isinstance(value, str) else "<number>"


def _precision_word(value: Any) -> Any:
    if value != "learned":
        message = f"expected a number, a list of numbers or 'learned', got {show(value)}"
        raise refuse(message, closest(str(value), ("learned",)))
    return value


def _gain_form(value: Any) -> str:
    return "<word>" if isinstance(value, str) else "<number>"


def _gain_word(value: Any) -> Any:
    if value != "auto":
        raise refuse(f"expected a number or 'auto', got {show(value)}", closest(str(value), ("auto",)))
    return value


NodeName = Annotated[
    str,
    AfterValidator(_node_name),
    Field(json_schema_extra={"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}),
]
LARGEST = 1e30
"""Of a number: its square would be infinite in float32, and its inverse next to zero."""
MOST_NUMBERS = 10**10
"""Numbers of one state: 40 GB."""


def _not_tiny(value: float) -> float:
    if value < 1 / LARGEST:
        raise refuse(f"expected at least {1 / LARGEST:g}, got {value:g}")
    return value


def _holdable(shape: tuple[int, ...]) -> tuple[int, ...]:
    if (count := math.prod(shape)) > MOST_NUMBERS:
        raise refuse(f"a state of {count:.3g} numbers; at most {MOST_NUMBERS:.0g}")
    return shape


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False), AfterValidator(_not_tiny)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Precision = Annotated[
    Annotated[Positive, Tag("<number>")]
    | Annotated[tuple[Positive, ...], Strict(False), Field(min_length=1), Tag("<list>")]
    | Annotated[Literal["learned"], BeforeValidator(_precision_word), Tag("<word>")],
    Discriminator(_precision_form),
]
ErrorGain = Annotated[
    Annotated[NonNegative, Tag("<number>")]
    | Annotated[Literal["auto"], BeforeValidator(_gain_word), Tag("<word>")],
    Discriminator(_gain_form),
]
Delay = Annotated[int, Field(ge=0, le=10_000)]
Shape = Annotated[tuple[Count, ...], Strict(False), Field(min_length=1), AfterValidator(_holdable)]
Argument = Annotated[
    bool | int | float | str,
    BeforeValidator(_argument),
    WithJsonSchema({"type": ["boolean", "number", "string"]}),
]
Predictor = Annotated[
    Annotated[
        str,
        BeforeValidator(_predictor_word),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "string", "pattern": "^python:"}]}),
        Tag("<word>"),
    ]
    | Annotated[list[Layer], Field(min_length=1), Tag("<layers>")],
    Discriminator(_predictor_form),
]
