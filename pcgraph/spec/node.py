"""The spec language: a place where a state lives."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pcgraph.spec.edge import EnergyName
from pcgraph.spec.layout import LayoutName
from pcgraph.spec.model import Model
from pcgraph.spec.source import show
from pcgraph.spec.values import Delay, Precision, Shape, refuse


class Node(Model):
    """A place where a state lives: in the backbone (`module`), or free-standing (`shape`)."""

    module: Annotated[str, Field(min_length=1)] | None = None
    """Qualified name in the backbone, as `pcgraph trace MODEL` lists them."""
    shape: Shape | None = None
    """Shape of the state without the batch, for a node that is not in the backbone."""
    layout: LayoutName | None = None
    """What the dimensions are, for `predictor: auto`: `channels_first`, as (channels, time) or (channels,
    height, width); `channels_last`; or `tokens`, rows of features in no order. Left out: the backbone's
    operations say; outside it one dimension is a vector, three or four are channels first, two unknown."""
    delay: Delay | None = None
    """Delay in steps of the backbone's prediction of this node. Left out: `schedule.order` says."""
    energy: EnergyName = "gaussian"
    """Rule `energy`: what an error of the backbone's prediction of this node costs; see the edges'."""
    precision: Precision = 1.0
    """Rule `energy`: the precision of the backbone's prediction of this node; see the edges'."""

    @model_validator(mode="before")
    @classmethod
    def _module_shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"module": value}
        if isinstance(value, list):
            message = f"expected a module's name or a mapping, got {show(value)}"
            raise refuse(message, "Write {shape: [...]}.")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Node:
        if self.module is not None and self.shape is not None:
            raise refuse("a node has either 'module' or 'shape', not both", "A module's shape is worked out.")
        if self.module is None and self.shape is None:
            hint = "'module' is a place in the backbone, 'shape' makes a node outside it."
            raise refuse("a node needs 'module' or 'shape'", hint)
        for name in ("delay", "energy", "precision") if self.shape is not None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                message = f"'{name}' of a node is for nodes in the backbone"
                article = "an" if name == "energy" else "a"
                raise refuse(message, f"Give the edges into this node {article} '{name}'.")
        return self

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        fields: dict[str, Any] = {"module": self.module, "shape": self.shape and list(self.shape)}
        fields |= {name: getattr(self, name) for name in ("layout", "delay", "energy", "precision")}
        if isinstance(self.precision, tuple):
            fields["precision"] = list(self.precision)
        given = {k: v for k, v in fields.items() if v != type(self).model_fields[k].default}
        return self.module if self.module is not None and len(given) == 1 else given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        fields = handler.resolve_ref_schema(handler(schema))
        fields.pop("title", None)
        text = fields.pop("description", "")
        own = [{"required": [field]} for field in ("delay", "energy", "precision")]
        alone = [{"required": ["module"]}, {"required": ["shape"], "not": {"anyOf": own}}]
        name = {"type": "string", "minLength": 1, "description": "Short for `{module: ...}`."}
        return {"title": "Node", "description": text, "anyOf": [name, {**fields, "oneOf": alone}]}
