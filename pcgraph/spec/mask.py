"""Which weights of an edge there are, as a spec says it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, Strict, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pcgraph.spec.generators import Graph
from pcgraph.spec.model import Model
from pcgraph.spec.values import Seed, refuse

PATTERNS = ("density", "blocks", "graph", "file")
ARRAYS = (".npy", ".safetensors")
GRAPHS = (".adjlist", ".edgelist", ".graphml")

_Row = Annotated[tuple[Literal[0, 1], ...], Strict(False), Field(min_length=1)]


class Mask(Model):
    """Which weights of an edge's matrix there are: one of the four patterns. The others are zero."""

    density: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """The share of the weights, picked at random."""
    blocks: Annotated[tuple[_Row, ...], Strict(False), Field(min_length=1)] | None = None
    """Rows of 0 and 1: the target's units are cut into as many equal parts as there are rows, the
    source's into as many as there are columns, and a 1 connects two parts."""
    graph: Graph | None = None
    """A random graph of the units, for an edge whose source and target have the same number of them
    (`n`, left out, is that number); the generators are listed under [Graph](#graph)."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """A matrix (target's units, source's units) of 0 and 1 in `.npy`, or alone in `.safetensors`; or a
    graph in `.edgelist`, `.adjlist` or `.graphml`, whose nodes are the units, numbered from 0. Where
    source and target differ in size the source's units come first, then the target's. Relative to
    this file. `mask: FILE` is short for it."""
    seed: Seed = 0
    """Seed of `density` and `graph`."""

    @model_validator(mode="before")
    @classmethod
    def _file_shorthand(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_pattern(self) -> Mask:
        given = [name for name in PATTERNS if getattr(self, name) is not None]
        if len(given) != 1:
            shown = " and ".join(f"'{name}'" for name in given) if given else "none"
            raise refuse(f"a mask has one of {', '.join(PATTERNS)}, got {shown}")
        if self.blocks is not None and len({len(row) for row in self.blocks}) > 1:
            raise refuse("the rows of 'blocks' differ in length", "Each row has one number a source part.")
        if self.file is not None and not self.file.endswith(ARRAYS + GRAPHS):
            raise refuse(f"'{self.file}' is no mask file", f"It ends in {', '.join(ARRAYS + GRAPHS)}.")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        fields = handler.resolve_ref_schema(handler(schema))
        fields.pop("title", None)
        text = fields.pop("description", "")
        ends = "|".join(end.lstrip(".") for end in ARRAYS + GRAPHS)
        name = {"type": "string", "pattern": rf"\.({ends})$", "description": "Short for `{file: ...}`."}
        fields["properties"]["file"]["pattern"] = name["pattern"]
        one = {**fields, "oneOf": [{"required": [pattern]} for pattern in PATTERNS]}
        return {"title": "Mask", "description": text, "anyOf": [name, one]}
