"""The spec language described for editors (JSON Schema) and for readers (Markdown), from the models."""

from __future__ import annotations

from typing import Any

from pcgraph.spec.backbone import Backbone, Preprocess
from pcgraph.spec.dynamics import Decay, EnergyDynamics, NodeGains, NodeRate, PredifyDynamics, Sharing
from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import Skip
from pcgraph.spec.generators import GENERATORS
from pcgraph.spec.layers import LAYERS
from pcgraph.spec.mask import Mask
from pcgraph.spec.model import Model
from pcgraph.spec.node import Node
from pcgraph.spec.schedule import Schedule
from pcgraph.spec.schema import Spec
from pcgraph.spec.start import Start
from pcgraph.spec.topology import Tie, Topology
from pcgraph.spec.training import Augmentation, LearningRate, Loss, Optimizer, Train, Tune, TuningNoise
from pcgraph.spec.weights import Checkpoint, PredictorFile

Schema = dict[str, Any]
SECTIONS: tuple[type[Model], ...] = (
    Spec,
    Backbone,
    Preprocess,
    Checkpoint,
    PredictorFile,
    Node,
    Edge,
    Mask,
    Topology,
    Tie,
    Skip,
    Start,
    PredifyDynamics,
    NodeGains,
    Sharing,
    EnergyDynamics,
    NodeRate,
    Decay,
    Schedule,
    Train,
    Tune,
    TuningNoise,
    Optimizer,
    LearningRate,
    Augmentation,
    Loss,
)
"""The models in the order in which the reference describes them."""
HUGE = 1e9
"""Limits from here on are those of all numbers, and are not said of each."""


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of spec files, short forms included."""
    schema: Schema = _tidy(Spec.model_json_schema())
    properties = schema["properties"]
    properties["$schema"] = {"type": "string", "description": "The JSON Schema of this file, for editors."}
    feedback = properties["feedback"]
    item = feedback["items"]
    properties["feedback"] = {
        "description": feedback["description"],
        "default": [],
        "anyOf": [item, {"type": "array", "items": item}],
    }
    del schema["required"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pcgraph spec",
        **schema,
        "anyOf": [{"required": ["name", "nodes"]}, {"required": ["extends"]}],
    }


def _tidy(value: Any) -> Any:
    """Drop the titles that pydantic makes up, and let tables keyed by node names refuse other keys."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    schema = {key: item for key, item in value.items() if key != "title"}
    if isinstance(schema.get("description"), str):
        schema["description"] = " ".join(schema["description"].split())
    if "patternProperties" in schema:
        ((pattern, of_each),) = schema.pop("patternProperties").items()
        schema["propertyNames"] = {"pattern": pattern}
        schema["additionalProperties"] = of_each
    return {key: _tidy(item) for key, item in schema.items()}


def reference() -> str:
    """Every field of a spec as Markdown: a table a model, and the layers with their arguments."""
    schema = json_schema()
    parts = []
    for model in SECTIONS:
        described = schema if model is Spec else schema["$defs"][model.__name__]
        fields = next(
            filter(None, (part.get("properties") for part in [described, *described.get("anyOf", [])]))
        )
        rows = [
            f"| `{name}` | {_cell(_words(field))} | {_cell(_default(model, name))} "
            f"| {_cell(field.get('description', ''))} |"
            for name, field in fields.items()
            if name in model.model_fields
        ]
        head = ["| Field | Value | Default | Meaning |", "|---|---|---|---|"]
        parts.append("\n".join([f"## {model.__name__}", "", described["description"], "", *head, *rows]))
    layers = [
        "## Layer",
        "",
        schema["$defs"]["Layer"]["description"],
        "",
        "| Name | Arguments |",
        "|---|---|",
    ]
    layers += [
        f"| `{name}` | {', '.join(f'`{argument}`' for argument in kinds) or 'none'} |"
        for name, kinds in LAYERS.items()
    ]
    graphs = [
        "## Graph",
        "",
        schema["$defs"]["Graph"]["description"],
        "",
        "| Name | Arguments |",
        "|---|---|",
    ]
    graphs += [
        f"| `{name}` | {', '.join(f'`{argument}`' for argument in kinds)} |"
        for name, kinds in GENERATORS.items()
    ]
    return "\n\n".join([*parts, "\n".join(layers), "\n".join(graphs)]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(model: type[Model], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return ""
    if isinstance(default, Model):
        rule = getattr(default, "rule", None)
        return (
            f"rule `{rule}`" if rule else f"[{type(default).__name__}](#{type(default).__name__.lower()})'s"
        )
    if isinstance(default, (list, dict)) and not default:
        return "none"
    return f"`{list(default) if isinstance(default, tuple) else default}`"


def _words(schema: Schema) -> str:
    """What a value may be, in words."""
    words = _alternatives(schema)
    return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else "".join(words)


def _alternatives(schema: Schema) -> list[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [f"[{name}](#{name.lower()})"]
    if "const" in schema:
        return [f"`{schema['const']}`"]
    if "enum" in schema:
        return [f"`{choice}`" for choice in schema["enum"]]
    if arms := schema.get("anyOf") or schema.get("oneOf"):
        first, *rest = arms
        several = rest == [{"type": "array", "items": first}]
        return (
            [*_alternatives(first), "a list of them"]
            if several
            else [words for arm in arms for words in _alternatives(arm)]
        )
    kind = schema.get("type")
    match kind:
        case list():
            return [words for one in kind for words in _alternatives({"type": one})]
        case "array" if "prefixItems" in schema:
            return [f"list of {len(schema['prefixItems'])} {_plural(_words(schema['prefixItems'][0]))}"]
        case "array":
            return [f"list of {_plural(_words(schema['items']))}"]
        case "object":
            keys = "node names" if "propertyNames" in schema else "names"
            return [f"{keys} to {_plural(_words(schema['additionalProperties']))}"]
        case "null":
            return []
        case "boolean":
            return ["true or false"]
        case "string":
            return [_text(schema)]
    return [_number(schema)]


def _plural(words: str) -> str:
    if words.startswith("list of "):
        return f"lists{words[4:]}"
    return words.replace("number", "numbers").replace("node name", "node names")


def _text(schema: Schema) -> str:
    pattern = schema.get("pattern", "")
    return "`python:...`" if pattern.startswith("^python") else "node name" if pattern[:1] == "^" else "text"


def _number(schema: Schema) -> str:
    ends = ("minimum", "maximum", "exclusiveMaximum")
    schema = {name: value for name, value in schema.items() if name not in ends or abs(value) < HUGE}
    words = "whole number" if schema.get("type") == "integer" else "number"
    if "minimum" in schema and "maximum" in schema:
        return f"{words} from {schema['minimum']} to {schema['maximum']}"
    if "exclusiveMinimum" in schema and "maximum" in schema:
        return f"{words} > {schema['exclusiveMinimum']}, at most {schema['maximum']}"
    if "minimum" in schema and "exclusiveMaximum" in schema:
        return f"{words} from {schema['minimum']} to below {schema['exclusiveMaximum']}"
    if "exclusiveMinimum" in schema and "exclusiveMaximum" in schema:
        return f"{words} above {schema['exclusiveMinimum']} and below {schema['exclusiveMaximum']}"
    if "minimum" in schema:
        return f"{words} ≥ {schema['minimum']}"
    return f"{words} > {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else words
