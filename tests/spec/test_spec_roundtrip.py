"""A spec that was dumped says the same when it is read again; mutated ones never crash."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from spec_strategies import specs

from pcgraph.errors import Fault, SpecError
from pcgraph.spec import load_spec, parse_spec, to_yaml
from pcgraph.spec.json_source import parse_json
from pcgraph.spec.yaml_source import parse_yaml
from tests.examples import examples

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300),
    st.floats(),
    st.text(max_size=8),
    st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2),
    st.sampled_from(["chain", "auto", "input", "e1", "<edge>", "[key]", "__root__", "source", "{x}", "%s"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.builds(lambda: {"source": "a", "target": "b"}),
    st.builds(lambda: [[[]]]),
)


@given(specs())
@examples(100)
def test_yaml_round_trip(data: dict[str, Any]) -> None:
    spec = parse_spec(data)
    assert parse_spec(to_yaml(spec)) == spec
    assert parse_spec(spec.dump()) == spec


@given(specs())
@examples(50)
def test_yaml_means_the_same_to_other_programs(data: dict[str, Any]) -> None:
    spec = parse_spec(data)
    assert yaml.safe_load(to_yaml(spec)) == spec.dump()


@given(specs())
@examples(50)
def test_every_place_is_where_the_field_is_written(data: dict[str, Any]) -> None:
    spec = parse_spec(data)
    for text, parse in ((to_yaml(spec), parse_yaml), (json.dumps(spec.dump(), indent=1), parse_json)):
        document = parse(text, "f")
        lines = text.splitlines()
        assert set(document.places) == set(_paths(document.data))
        for path, place in document.places.items():
            written = lines[place.line - 1][place.column - 1 :]
            if path and isinstance(path[-1], str):
                assert written.startswith((path[-1], f"'{path[-1]}'", f'"{path[-1]}"'))


@given(specs())
@examples(50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_round_trip(tmp_path: Path, data: dict[str, Any]) -> None:
    spec = parse_spec(data)
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec.dump()), encoding="utf-8")
    assert load_spec(file) == spec


def faults_of(read: Callable[[], object]) -> Sequence[Fault]:
    """What a SpecError says; no other exception may come."""
    try:
        read()
    except SpecError as error:
        return error.faults or [Fault("")]
    return []


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in _paths(item, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid spec after a few cuts, renamings and odd values at random places."""
    data = copy.deepcopy(draw(specs()))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(data)))
        if not path:
            continue
        parent = data
        for part in path[:-1]:
            parent = parent[part]
        action = draw(st.sampled_from(["drop", "rename", "retype", "insert"]))
        if action == "drop":
            del parent[path[-1]]
        elif action == "retype":
            parent[path[-1]] = draw(ODD)
        elif isinstance(parent, dict):
            value = parent.pop(path[-1]) if action == "rename" else draw(ODD)
            parent[draw(st.text(max_size=6)) if draw(st.booleans()) else f"{path[-1]}s"] = value
        else:
            parent.insert(path[-1], draw(ODD))
    return data


@given(mutated())
@examples(200)
def test_mutated_values_give_a_spec_or_a_spec_error(data: Any) -> None:
    faults = faults_of(lambda: parse_spec(data))
    assert all(fault.message and "pydantic" not in str(fault) for fault in faults)


@given(specs(), st.data())
@examples(150)
def test_edited_text_gives_a_spec_or_a_spec_error(data: dict[str, Any], draws: st.DataObject) -> None:
    text = to_yaml(parse_spec(data))
    for _ in range(draws.draw(st.integers(1, 4))):
        start = draws.draw(st.integers(0, len(text)))
        end = draws.draw(st.integers(start, min(len(text), start + 12)))
        pieces = st.one_of(
            st.text(max_size=6), st.sampled_from([*"{}[],:&*!|>'\"%@`#-?\t\n", "<<: *a", "---\n", "&a "])
        )
        text = text[:start] + draws.draw(pieces) + text[end:]
    assert all(
        fault.message and fault.where.startswith("<text>") for fault in faults_of(lambda: parse_spec(text))
    )


@given(st.binary(max_size=200), st.sampled_from([".yaml", ".json", ".toml"]))
@examples(100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_spec_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"spec{suffix}"
    file.write_bytes(content)
    with pytest.raises(SpecError):
        load_spec(file)


@given(specs(), st.sampled_from(["spec.json", "spec.yaml"]), st.data())
@examples(100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_edited_files_give_a_spec_or_a_spec_error(
    tmp_path: Path, data: dict[str, Any], name: str, draws: st.DataObject
) -> None:
    text = json.dumps(parse_spec(data).dump(), indent=1)
    start = draws.draw(st.integers(0, len(text)))
    file = tmp_path / name
    file.write_text(
        text[:start] + draws.draw(st.sampled_from([*"{}[],:\"'01ae\\\n", ""])) + text[start + 1 :]
    )
    assert all(fault.where.startswith(str(file)) for fault in faults_of(lambda: load_spec(file)))
