"""The JSON Schema says what the loader says; the reference page names every field."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from spec_malformed import CASES, Case
from spec_strategies import specs

from pcgraph.spec import LAYERS, json_schema, parse_spec, reference
from pcgraph.spec.reference import SECTIONS
from pcgraph.spec.yaml_source import parse_yaml
from tests.examples import examples

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
SHORT: dict[str, Any] = {
    "name": "n",
    "backbone": {"model": "timm:x"},
    "nodes": {"e1": "a", "e2": {"module": "b"}},
}


def test_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json_schema()["title"] == "pcgraph spec"


@given(specs())
@examples(50)
def test_accepts_what_the_loader_accepts(data: dict[str, Any]) -> None:
    VALIDATOR.validate(data)
    VALIDATOR.validate(parse_spec(data).dump())


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "specs").glob("*.yaml")), ids=lambda file: file.stem
)
def test_accepts_the_shipped_specs(file: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "more",
    [
        {"feedback": "chain"},
        {"feedback": {"skip": 2}},
        {"feedback": {"source": "e2", "target": "e1"}},
        {
            "feedback": [
                "chain",
                {"skip": 2},
                {"source": ["e1", "e2"], "target": "input", "predictor": "auto"},
            ]
        },
        {
            "feedback": [
                {
                    "source": "e2",
                    "target": "e1",
                    "predictor": ["ReLU", {"Linear": None}, {"ELU": {"alpha": 2}}],
                }
            ]
        },
        {"feedback": [{"source": "e2", "target": "e1", "predictor": "python:a.b:C"}]},
        {"dynamics": {"feedforward": 0.5}},
        {"dynamics": {"rule": "energy", "nodes": {"e1": {"rate": 0.5}}}},
        {"$schema": "spec.schema.json", "extends": "base.yaml"},
        {
            "backbone": {
                "model": "timm:x",
                "weights": None,
                "arguments": {"depth": 3, "deep": True, "act": "relu"},
            }
        },
    ],
)
def test_accepts_short_forms(more: dict[str, Any]) -> None:
    data = {**SHORT, **more}
    VALIDATOR.validate(data)
    if "extends" not in data:
        parse_spec(data)


def test_name_and_nodes_may_come_from_the_extended_file() -> None:
    VALIDATOR.validate({"extends": "base.yaml", "schedule": {"steps": 3}})
    assert not VALIDATOR.is_valid({"schedule": {"steps": 3}})


# What an editor cannot see: how fields agree, words of Python, what only a whole spec knows, tags and
# doubled keys, infinities (JSON has none) and 10.0 (JSON Schema takes it for a whole number).
BEYOND = re.compile(
    r"twice|already given|alone|the same place|unknown node|bundle|channels|the crop|for images"
    r"|belongs to (rule|task|kind)|'steps' changes|follows the feedforward|no 'backbone'|needs 'edges'"
    r"|word of Python|is not declared"
    r"|cannot name a spec|which library|unknown library|names no|not both|got the text|contains itself"
    r"|differ in length|takes no '|the task '"
    r"|erdos_renyi needs|areas; at most|no such graph|the order twice|delay 0"
    r"|'betas' belong|'temperature' needs"
    r"|has a start already|start edges form|'start' is for|'amortised' makes|starts at what"
    r"|runs downwards|a share of|values of rule"
    r"|part of the spec language|key of a field|without a model|not valid YAML|finite number|got 10\.0"
)


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if case.suffix == ".yaml"
        and re.search(r"^spec.yaml:\d+:\d+ [a-z]", case.expected)
        and not BEYOND.search(case.expected)
    ],
    ids=lambda case: case.name,
)
def test_refuses_what_the_loader_refuses(case: Case) -> None:
    assert not VALIDATOR.is_valid(parse_yaml(case.text, case.file).data)


def test_every_field_is_described() -> None:
    schema = json_schema()
    page = reference()
    for model in SECTIONS:
        described = schema if model.__name__ == "Spec" else schema["$defs"][model.__name__]
        for part in [described, *described.get("anyOf", [])]:
            for name, field in part.get("properties", {}).items():
                assert field.get("description"), (model.__name__, name)
        section = page.split(f"## {model.__name__}\n")[1].split("\n## ")[0]
        for name in model.model_fields:
            assert f"| `{name}` |" in section


def test_reference_rows() -> None:
    page = reference()
    assert "| `resize` | whole number > 0, at most 16384 |  | Length of the shorter side in pixels" in page
    assert "| `order` | `synchronous`, `sweep` or list of lists of node names | `synchronous` |" in page
    assert "| `input` | list of whole numbers > 0 | `[3, 224, 224]` |" in page
    assert "| `feedforward` | number from 0 to 1 | `0.3` | beta:" in page
    assert "| `target` | node name | required | Node that is predicted. |" in page
    assert "| `nodes` | node names to [Node](#node) | required |" in page
    assert all(f"| `{layer}` |" in page for layer in LAYERS)
    anchors = {name.lower() for name in re.findall(r"^## (\w+)$", page, flags=re.M)}
    assert set(re.findall(r"\(#(\w+)\)", page)) <= anchors
    assert all(
        row.count("|") - row.count("\\|") in (3, 5) for row in page.splitlines() if row.startswith("|")
    )
