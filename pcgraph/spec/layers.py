"""The layers that a predictor may be built from: a fixed list of class names of `torch.nn`.

Each has the arguments that it takes, in the order of its constructor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from pcgraph.errors import closest
from pcgraph.spec.source import show


@dataclass(frozen=True)
class Kind:
    """What an argument of a layer may be.

    Attributes:
        expected: In words, for messages.
        schema: As JSON Schema, for editors.
        accepts: Whether a value fits.
    """

    expected: str
    schema: dict[str, Any]
    accepts: Callable[[Any], bool]


def _integer(value: Any, least: int | None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e30


def _each(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Accept one value, or a list of them (one for each dimension)."""
    return lambda value: (
        bool(value) and all(map(accepts, value)) if isinstance(value, list) else accepts(value)
    )


def _one_or_list(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _words(*choices: str) -> Kind:
    expected = ", ".join(f"'{choice}'" for choice in choices[:-1]) + f" or '{choices[-1]}'"
    return Kind(expected, {"enum": list(choices)}, lambda value: value in choices)


_POSITIVE = {"type": "integer", "minimum": 1}
_NATURAL = {"type": "integer", "minimum": 0}

COUNT = Kind("a whole number above 0", _POSITIVE, lambda value: _integer(value, 1))
INTEGER = Kind("a whole number", {"type": "integer"}, lambda value: _integer(value, None))
SIZE = Kind(
    "a whole number above 0 or a list of them",
    _one_or_list(_POSITIVE),
    _each(lambda value: _integer(value, 1)),
)
PADDING = Kind(
    "a whole number from 0 on or a list of them",
    _one_or_list(_NATURAL),
    _each(lambda value: _integer(value, 0)),
)
CONV_PADDING = Kind(
    f"{PADDING.expected}, 'same' or 'valid'",
    {"anyOf": [*PADDING.schema["anyOf"], {"enum": ["same", "valid"]}]},
    lambda value: value in ("same", "valid") if isinstance(value, str) else PADDING.accepts(value),
)
NUMBER = Kind("a number", {"type": "number"}, _number)
SPARE = Kind(
    "a number from 0 on", {"type": "number", "minimum": 0}, lambda value: _number(value) and value >= 0
)
DIVISOR = Kind(
    "a number other than 0",
    {"type": "number", "not": {"const": 0}},
    lambda value: _number(value) and value != 0,
)
FACTOR = Kind(
    "a number above 0 or a list of them",
    _one_or_list({"type": "number", "exclusiveMinimum": 0}),
    _each(lambda value: _number(value) and value > 0),
)
FLAG = Kind("true or false", {"type": "boolean"}, lambda value: isinstance(value, bool))

_CONV = {
    "in_channels": COUNT,
    "out_channels": COUNT,
    "kernel_size": SIZE,
    "stride": SIZE,
    "padding": CONV_PADDING,
    "dilation": SIZE,
    "groups": COUNT,
    "bias": FLAG,
    "padding_mode": _words("zeros", "reflect", "replicate", "circular"),
}
_CONV_TRANSPOSE = {
    "in_channels": COUNT,
    "out_channels": COUNT,
    "kernel_size": SIZE,
    "stride": SIZE,
    "padding": PADDING,
    "output_padding": PADDING,
    "groups": COUNT,
    "bias": FLAG,
    "dilation": SIZE,
    "padding_mode": _words("zeros"),
}
_BATCH_NORM = {
    "num_features": COUNT,
    "eps": SPARE,
    "momentum": NUMBER,
    "affine": FLAG,
    "track_running_stats": FLAG,
}
_POOL = {
    "kernel_size": SIZE,
    "stride": SIZE,
    "padding": PADDING,
    "ceil_mode": FLAG,
    "count_include_pad": FLAG,
}
_MAX_POOL = {"kernel_size": SIZE, "stride": SIZE, "padding": PADDING, "dilation": SIZE}

LAYERS: Mapping[str, Mapping[str, Kind]] = {
    "AdaptiveAvgPool1d": {"output_size": SIZE},
    "AdaptiveAvgPool2d": {"output_size": SIZE},
    "AdaptiveAvgPool3d": {"output_size": SIZE},
    "AvgPool1d": _POOL,
    "AvgPool2d": {**_POOL, "divisor_override": COUNT},
    "AvgPool3d": {**_POOL, "divisor_override": COUNT},
    "BatchNorm1d": _BATCH_NORM,
    "BatchNorm2d": _BATCH_NORM,
    "BatchNorm3d": _BATCH_NORM,
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "Conv3d": _CONV,
    "ConvTranspose1d": _CONV_TRANSPOSE,
    "ConvTranspose2d": _CONV_TRANSPOSE,
    "ConvTranspose3d": _CONV_TRANSPOSE,
    "Dropout": {"p": NUMBER},
    "ELU": {"alpha": NUMBER},
    "Flatten": {"start_dim": INTEGER, "end_dim": INTEGER},
    "GELU": {"approximate": _words("none", "tanh")},
    "GroupNorm": {"num_groups": COUNT, "num_channels": COUNT, "eps": SPARE, "affine": FLAG},
    "Hardsigmoid": {},
    "Hardswish": {},
    "Hardtanh": {"min_val": NUMBER, "max_val": NUMBER},
    "Identity": {},
    "LayerNorm": {"normalized_shape": SIZE, "eps": SPARE, "elementwise_affine": FLAG, "bias": FLAG},
    "LeakyReLU": {"negative_slope": NUMBER},
    "Linear": {"in_features": COUNT, "out_features": COUNT, "bias": FLAG},
    "MaxPool1d": _MAX_POOL,
    "MaxPool2d": _MAX_POOL,
    "MaxPool3d": _MAX_POOL,
    "Mish": {},
    "PReLU": {"num_parameters": COUNT, "init": NUMBER},
    "ReLU": {},
    "ReLU6": {},
    "Sigmoid": {},
    "SiLU": {},
    "Softmax": {"dim": INTEGER},
    "Softplus": {"beta": DIVISOR, "threshold": NUMBER},
    "Tanh": {},
    "Unflatten": {"dim": INTEGER, "unflattened_size": SIZE},
    "Upsample": {
        "size": SIZE,
        "scale_factor": FACTOR,
        "mode": _words("nearest", "linear", "bilinear", "bicubic", "trilinear", "nearest-exact"),
        "align_corners": FLAG,
    },
}
"""Layer name to its arguments. In-place variants are left out: a predictor never changes a state."""


class Layer(BaseModel):
    """One layer: `Name`, or `{Name: {argument: value}}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    arguments: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = {"name": value}
        elif isinstance(value, dict) and len(value) == 1 and "name" not in value:
            ((name, arguments),) = value.items()
            value = {"name": name, "arguments": {} if arguments is None else arguments}
        elif not (isinstance(value, dict) and set(value) <= {"name", "arguments"} and "name" in value):
            hint = "Each further layer begins with its own '-'." if isinstance(value, dict) and value else ""
            message = f"expected a layer, NAME or {{NAME: {{argument: value}}}}, got {show(value)}"
            raise _error([((), message, hint)])
        if faults := _faults(value["name"], value.get("arguments", {})):
            raise _error(faults)
        return value

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        return {self.name: self.arguments} if self.arguments else self.name

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        arguments = {
            name: {
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": {key: kind.schema for key, kind in kinds.items()},
            }
            for name, kinds in LAYERS.items()
        }
        return {
            "title": "Layer",
            "description": "One layer: `Name`, or `{Name: {argument: value}}`.",
            "anyOf": [
                {"enum": list(LAYERS)},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                    "properties": arguments,
                },
            ],
        }


RelativeFault = tuple[tuple[str, ...], str, str]
"""Path below the layer, message, hint."""


def _faults(name: object, arguments: object) -> list[RelativeFault]:
    if not isinstance(name, str):
        return [((), f"expected the name of a layer, got {show(name)}", "")]
    kinds = LAYERS.get(name)
    if kinds is None:
        return [((), f"unknown layer '{name}'", _layer_hint(name))]
    if not isinstance(arguments, dict):
        first = next(iter(kinds), "argument")
        hint = f"Write {{{name}: {{{first}: {show(arguments)}}}}}." if kinds and _number(arguments) else ""
        return [((name,), f"expected a mapping of arguments, got {show(arguments)}", hint)]
    faults: list[RelativeFault] = []
    for key, value in arguments.items():
        kind = kinds.get(key)
        if key == "inplace":
            hint = "Leave it out: a predictor never changes a state in place."
            faults.append(((name, key), f"{name} takes no 'inplace' here", hint))
        elif kind is None:
            hint = closest(str(key), kinds) if kinds else f"{name} takes no arguments."
            faults.append(((name, key), f"unknown argument '{key}' of {name}", hint))
        elif not kind.accepts(value):
            faults.append(((name, key), f"expected {kind.expected}, got {show(value)}", ""))
    return faults


def _layer_hint(name: str) -> str:
    if name == "auto":
        return "Write 'predictor: auto', without the list."
    if name.startswith("python:"):
        return f"Write 'predictor: {name}', without the list."
    if name.startswith(("nn.", "torch.nn.")):
        return _layer_hint(name.rpartition(".")[2])
    if name == "Sequential":
        return "A list of layers already is a sequence; write its layers one after the other."
    same = [layer for layer in LAYERS if layer.lower() == name.lower().replace("_", "")]
    return f"Did you mean '{same[0]}'?" if same else closest(name, LAYERS)


def _error(faults: list[RelativeFault]) -> PydanticCustomError:
    return PydanticCustomError("faults", "{text}", {"text": faults[0][1], "faults": faults})
