"""Reading good specs: the three formats, YAML's traps, places, and specs that extend others."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pcgraph.errors import SpecError
from pcgraph.spec import (
    Edge,
    EnergyDynamics,
    Layer,
    Node,
    PredifyDynamics,
    Skip,
    load_spec,
    parse_spec,
    to_yaml,
)

VGG = """\
name: pvgg16
backbone: {model: torchvision:vgg16, weights: DEFAULT, input: [3, 224, 224]}
nodes: {e1: features.3, e2: features.8, e3: {module: features.15, delay: 2}}
feedback:                                  # edges and patterns
  - {source: e1, target: input, predictor: [{ConvTranspose2d: {kernel_size: 5, padding: 2}}, ReLU]}
  - {source: [e2, e3], target: e1}
  - {skip: 2}
dynamics:
  feedforward: 0.8
  feedback: 0.1
  error: 1e-2
  gradient: mean
  nodes: {e1: {feedforward: 0.2, feedback: 0.05}}
schedule: {order: sweep, steps: 12, tolerance: 1e-3}
"""
TOML = """\
name = "pvgg16"

[backbone]
model = "torchvision:vgg16"
weights = "DEFAULT"
input = [3, 224, 224]

[nodes]
e1 = "features.3"
e2 = "features.8"
e3 = {module = "features.15", delay = 2}

[[feedback]]
source = "e1"
target = "input"
predictor = [{ConvTranspose2d = {kernel_size = 5, padding = 2}}, "ReLU"]

[[feedback]]
source = ["e2", "e3"]
target = "e1"

[[feedback]]
skip = 2

[dynamics]
feedforward = 0.8
feedback = 0.1
error = 1e-2
gradient = "mean"
nodes.e1 = {feedforward = 0.2, feedback = 0.05}

[schedule]
order = "sweep"
steps = 12
tolerance = 1e-3
"""
JSON = """\
{
\t"$schema": "https://example.org/spec.json",
\t"name": "pvgg16",
\t"backbone": {"model": "torchvision:vgg16", "weights": "DEFAULT", "input": [3, 224, 224]},
\t"nodes": {"e1": "features.3", "e2": "features.8", "e3": {"module": "features.15", "delay": 2}},
\t"feedback": [
\t\t{"source": "e1", "target": "input",
\t\t "predictor": [{"ConvTranspose2d": {"kernel_size": 5, "padding": 2}}, "ReLU"]},
\t\t{"source": ["e2", "e3"], "target": "e1"},
\t\t{"skip": 2}
\t],
\t"dynamics": {"feedforward": 0.8, "feedback": 0.1, "error": 1e-2, "gradient": "mean",
\t\t"nodes": {"e1": {"feedforward": 0.2, "feedback": 0.05}}},
\t"schedule": {"order": "sweep", "steps": 12, "tolerance": 1e-3}
}
"""
MINIMAL = "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {e1: features.3, e2: features.8}\n"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("suffix", "text"), [(".yaml", VGG), (".yml", VGG), (".toml", TOML), (".json", JSON)]
)
def test_formats(folder: Path, suffix: str, text: str) -> None:
    Path(f"spec{suffix}").write_text(text, encoding="utf-8")
    spec = load_spec(f"spec{suffix}")
    assert spec.name == "pvgg16"
    assert spec.backbone is not None
    assert spec.backbone.input == (3, 224, 224)
    assert spec.nodes == {
        "e1": Node(module="features.3"),
        "e2": Node(module="features.8"),
        "e3": Node(module="features.15", delay=2),
    }
    assert list(spec.nodes) == ["e1", "e2", "e3"]
    first = Edge(
        source="e1",
        target="input",
        predictor=[
            Layer(name="ConvTranspose2d", arguments={"kernel_size": 5, "padding": 2}),
            Layer(name="ReLU"),
        ],
    )
    assert spec.feedback == [first, Edge(source=["e2", "e3"], target="e1"), Skip(skip=2)]
    assert isinstance(spec.feedback[1], Edge)
    assert spec.feedback[1].sources == ("e2", "e3")
    assert isinstance(spec.dynamics, PredifyDynamics)
    assert (spec.dynamics.feedforward, spec.dynamics.feedback, spec.dynamics.error) == (0.8, 0.1, 0.01)
    assert spec.dynamics.gradient == "mean"
    assert spec.dynamics.nodes["e1"].feedback == 0.05
    assert spec.dynamics.nodes["e1"].error is None
    assert (spec.schedule.order, spec.schedule.steps, spec.schedule.tolerance) == ("sweep", 12, 1e-3)
    assert spec.folder == Path()


def test_defaults() -> None:
    spec = parse_spec(MINIMAL)
    assert spec.feedback == []
    assert spec.edges == []
    assert spec.weights is None
    assert isinstance(spec.dynamics, PredifyDynamics)
    assert (spec.dynamics.feedforward, spec.dynamics.feedback, spec.dynamics.error) == (0.3, 0.3, 0.01)
    assert (spec.schedule.order, spec.schedule.steps, spec.schedule.initial) == (
        "synchronous",
        10,
        "feedforward",
    )


def test_without_a_backbone() -> None:
    spec = parse_spec(
        {
            "name": "mlp",
            "nodes": {"input": {"shape": (1, 28, 28)}, "hidden": {"shape": [64]}},
            "edges": [{"source": "input", "target": "hidden", "predictor": ["Flatten", {"Linear": None}]}],
            "feedback": ["chain"],
            "dynamics": {"rule": "energy"},
        }
    )
    assert spec.nodes["input"].shape == (1, 28, 28)
    assert spec.edges[0].predictor == [Layer(name="Flatten"), Layer(name="Linear")]
    assert isinstance(spec.dynamics, EnergyDynamics)
    assert spec.dynamics.rate == 0.1


@pytest.mark.parametrize("text", ["null", "~", "", "none", "None", "no", "false"])
def test_ways_to_write_no_weights(text: str) -> None:
    spec = parse_spec(
        f"name: n\nbackbone:\n  model: torchvision:vgg16\n  weights: {text}\nnodes: {{e1: features.3}}\n"
    )
    assert spec.backbone is not None
    assert spec.backbone.weights is None


def test_a_spec_never_changes() -> None:
    spec = parse_spec(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]


# ---- YAML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+0.25", 0.25),
        ("0x10", 16.0),
        ("0o17", 15.0),
        ("010", 10.0),
        ("2", 2.0),
    ],
)
def test_numbers(text: str, value: float) -> None:
    spec = parse_spec(MINIMAL + f"dynamics: {{error: {text}}}")
    assert isinstance(spec.dynamics, PredifyDynamics)
    assert spec.dynamics.error == value


@pytest.mark.parametrize(
    "text", ["no", "on", "off", "yes", "y", "12:30", "2024-01-01", "1_000", "0b1", "'1e-3'", "1e"]
)
def test_what_stays_text(text: str) -> None:
    assert parse_spec(MINIMAL.replace("demo", text)).name == text.strip("'")


@pytest.mark.parametrize("name", ["no", "on", "yes", "y", "null", "true", "off"])
def test_keys_are_text(name: str) -> None:
    assert list(parse_spec(MINIMAL.replace("e1", name)).nodes) == [name, "e2"]


def test_anchors_aliases_and_merge_keys() -> None:
    spec = parse_spec(
        MINIMAL
        + """\
feedback:
  - &first {source: e2, target: e1, predictor: &up [Upsample, ReLU], delay: 2}
  - {<<: *first, target: input, gain: 0.5}
  - {source: e1, target: input, predictor: *up}
"""
    )
    up = [Layer(name="Upsample"), Layer(name="ReLU")]
    assert spec.feedback == [
        Edge(source="e2", target="e1", predictor=up, delay=2),
        Edge(source="e2", target="input", predictor=up, delay=2, gain=0.5),
        Edge(source="e1", target="input", predictor=up),
    ]


def test_merge_of_several_mappings_prefers_the_first() -> None:
    text = (
        "name: demo\nbackbone: {model: torchvision:vgg16}\nnodes: {e1: features.3}\n"
        "dynamics:\n  nodes:\n    e1: &a {feedforward: 0.1}\n    input: &b {feedforward: 0.2, error: 0.5}\n"
    )
    spec = parse_spec(text + "schedule: {steps: 3}\n")
    assert isinstance(spec.dynamics, PredifyDynamics)
    merged = parse_spec(
        text.replace("nodes: {e1: features.3}", "nodes: {e1: features.3, e2: features.8}")
        + "    e2: {<<: [*a, *b]}\n"
    )
    assert isinstance(merged.dynamics, PredifyDynamics)
    assert merged.dynamics.nodes["e2"].feedforward == 0.1
    assert merged.dynamics.nodes["e2"].error == 0.5


@pytest.mark.parametrize("value", ["3", "[1, 2]", "[{a: 1}, 3]"])
def test_merge_of_something_else(value: str) -> None:
    with pytest.raises(SpecError, match="'<<' takes a mapping, or a list of mappings"):
        parse_spec(MINIMAL + f"schedule: {{<<: {value}}}\n")


def test_merge_into_itself() -> None:
    with pytest.raises(SpecError, match="a mapping cannot be merged into itself"):
        parse_spec(MINIMAL + "schedule: &s {<<: *s}\n")


def test_merges_that_multiply() -> None:
    text = "a: &a {k: v}\n" + "".join(
        f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n"
        for old, new in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(SpecError, match=r"more than 100000 values \(aliases written out\)"):
        parse_spec(text)


# ---- places -------------------------------------------------------------------------------------


def place(text: str, line: int, begins: str) -> str:
    """``line:column`` of where a piece of a line begins, counted in the text itself."""
    return f"{line}:{text.splitlines()[line - 1].index(begins) + 1}"


@pytest.mark.parametrize(
    ("path", "line", "begins"),
    [
        ((), 1, "name"),
        (("name",), 1, "name"),
        (("backbone", "weights"), 2, "weights"),
        (("backbone", "input", 2), 2, "224]"),
        (("nodes", "e3", "delay"), 3, "delay"),
        (("nodes", "e1", "module"), 3, "e1"),
        (("feedback", 0), 5, "{source"),
        (("feedback", 0, "predictor", 0, "ConvTranspose2d", "padding"), 5, "padding"),
        (("feedback", 0, "predictor", 1), 5, "ReLU"),
        (("feedback", 0, "delay"), 5, "{source"),
        (("feedback", 1, "source", 1), 6, "e3"),
        (("dynamics", "nodes", "e1", "feedback"), 13, "feedback"),
        (("schedule", "initial"), 14, "schedule"),
        (("weights",), 1, "name"),
    ],
)
def test_locate(folder: Path, path: tuple[str | int, ...], line: int, begins: str) -> None:
    write(folder, spec=VGG)
    assert load_spec("spec.yaml").locate(path) == f"spec.yaml:{place(VGG, line, begins)}"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("name",), "1:1"),
        (("backbone",), "3:1"),
        (("backbone", "input", 1), "6:1"),
        (("nodes", "e3", "delay"), "11:1"),
        (("feedback",), "13:1"),
        (("feedback", 0, "target"), "15:1"),
        (("feedback", 1), "18:1"),
        (("feedback", 2, "skip"), "23:1"),
        (("dynamics", "nodes", "e1", "feedback"), "30:1"),
        (("schedule", "tolerance"), "35:1"),
    ],
)
def test_locate_in_toml(folder: Path, path: tuple[str | int, ...], place: str) -> None:
    Path("spec.toml").write_text(TOML, encoding="utf-8")
    assert load_spec("spec.toml").locate(path) == f"spec.toml:{place}"


def test_locate_in_json(folder: Path) -> None:
    Path("spec.json").write_text(JSON, encoding="utf-8")
    spec = load_spec("spec.json")
    assert spec.locate(("feedback", 1, "source", 1)) == "spec.json:" + place(JSON, 9, '"e3"')
    assert spec.locate(("dynamics", "nodes", "e1", "feedback")) == "spec.json:" + place(
        JSON, 13, '"feedback"'
    )


def test_no_place_without_a_file() -> None:
    spec = parse_spec({"name": "n", "backbone": {"model": "timm:resnet18"}, "nodes": {"e1": "layer1"}})
    assert spec.locate(("nodes", "e1")) == ""


def test_located() -> None:
    spec = parse_spec(MINIMAL)
    with pytest.raises(SpecError) as caught:
        parse_spec(MINIMAL + "feedback: chian")
    fault = caught.value.faults[0]
    assert spec.located([fault]) == [fault]
    placeless = type(fault)("does not fit", ("nodes", "e2"))
    assert [str(found) for found in spec.located([placeless])] == ["<text>:3:25 nodes.e2: does not fit"]


# ---- files --------------------------------------------------------------------------------------


def message(path: str | Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    return str(caught.value)


def test_missing_file(folder: Path) -> None:
    write(folder, vgg16=VGG)
    assert message("vgg61.yaml") == "vgg61.yaml: no such file\n  Did you mean 'vgg16.yaml'?"
    write(folder, my_vgg=VGG)
    expected = "no such file, and no shipped spec is called 'my_vgg'\n  Did you mean 'my_vgg.yaml'?"
    assert message("my_vgg") == expected
    assert message(Path("my_vgg")) == "my_vgg: no such file\n  Did you mean 'my_vgg.yaml'?"
    assert message("nowhere/vgg16.yaml") == "nowhere/vgg16.yaml: no such file: there is no folder 'nowhere'"


def test_folder_instead_of_a_file(folder: Path) -> None:
    (folder / "specs").mkdir()
    write(folder / "specs", a=VGG, b=VGG)
    assert message("specs") == "specs: a folder, expected a spec file\n  Choose from 'a.yaml', 'b.yaml'."


def test_suffixes(folder: Path) -> None:
    Path("notes.txt").write_text("hello")
    Path("Makefile").write_text("hello")
    hint = "\n  A spec file ends in .yaml, .yml, .json or .toml."
    assert message("notes.txt") == "notes.txt: unknown suffix '.txt'" + hint
    assert message("missing.py") == "missing.py: unknown suffix '.py'" + hint
    assert message("Makefile") == "Makefile: no suffix" + hint


def test_encodings(folder: Path) -> None:
    Path("latin.yaml").write_bytes("name: demo\n# é\n".encode("latin-1"))
    Path("wide.yaml").write_bytes(VGG.encode("utf-16"))
    Path("image.yaml").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    hint = "\n  Save the file as UTF-8."
    assert message("latin.yaml") == "latin.yaml:2:3: not UTF-8 text: the byte 0xe9" + hint
    assert message("wide.yaml") == "wide.yaml: a binary file, expected text"
    assert message("image.yaml") == "image.yaml: a binary file, expected text"


def test_large_file(folder: Path) -> None:
    Path("large.yaml").write_text("#" * 1_000_001)
    assert message("large.yaml") == "large.yaml: larger than a megabyte; this is no spec"


def test_odd_paths(folder: Path) -> None:
    assert "no such file" in message("a\0b.yaml")
    assert "cannot be read: File name too long" in message("a" * 5000 + ".yaml")


def test_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    write(folder, secret=VGG)
    monkeypatch.setattr(Path, "open", refused)
    assert message("secret.yaml") == "secret.yaml: cannot be read: Permission denied"


def test_half_a_character(folder: Path) -> None:
    Path("a.json").write_text(json.dumps({"name": "\ud800", "nodes": {}}))
    assert message("a.json") == "a.json:1:2 name: '\\ud800' is no text: it holds half of a character"


@pytest.mark.parametrize("data", [[], None, 3, {1: 2}, {"nodes": {None: "x"}}])
def test_values_that_are_no_mapping(data: Any) -> None:
    with pytest.raises(SpecError, match=r"expected a mapping of fields|must be text"):
        parse_spec(data)


def test_value_that_contains_itself() -> None:
    data: dict[str, Any] = {"name": "n"}
    data["nodes"] = data
    with pytest.raises(SpecError, match=r"nested more than 40 levels deep"):
        parse_spec(data)


# ---- extends ------------------------------------------------------------------------------------

BASE = """\
name: base
backbone: {model: torchvision:vgg16, weights: DEFAULT}
nodes: {e1: features.3, e2: features.8}
feedback: [chain, to_input]
dynamics: {feedforward: 0.4, nodes: {e1: {feedforward: 0.2}}}
schedule: {order: sweep, steps: 5}
"""


def test_extends_merges_mappings_and_replaces_the_rest(folder: Path) -> None:
    write(
        folder,
        base=BASE,
        top="extends: base.yaml\nname: top\nnodes: {e3: features.15}\nfeedback: [dense]\n"
        "dynamics: {nodes: {e1: {error: 0.5}}}\nschedule: {steps: 8}\n",
    )
    assert load_spec("top.yaml") == parse_spec(
        """\
name: top
backbone: {model: torchvision:vgg16, weights: DEFAULT}
nodes: {e1: features.3, e2: features.8, e3: features.15}
feedback: [dense]
dynamics: {feedforward: 0.4, nodes: {e1: {feedforward: 0.2, error: 0.5}}}
schedule: {order: sweep, steps: 8}
"""
    )


def test_extends_remembers_where_each_field_is(folder: Path) -> None:
    write(folder, base=BASE, top="extends: base.yaml\nname: top\nfeedback: [dense]\nschedule: {steps: 8}\n")
    spec = load_spec("top.yaml")
    assert spec.extends is None
    assert spec.locate(("name",)) == "top.yaml:2:1"
    assert spec.locate(("nodes", "e2")) == "base.yaml:3:25"
    assert spec.locate(("feedback", 0)) == "top.yaml:3:12"
    assert spec.locate(("feedback", 1)) == "top.yaml:3:1"
    assert spec.locate(("schedule", "steps")) == "top.yaml:4:12"
    assert spec.locate(("schedule", "order")) == "base.yaml:6:12"


def test_extends_reports_faults_of_either_file(folder: Path) -> None:
    write(
        folder,
        base=BASE.replace("sweep", "sweap"),
        top="extends: base.yaml\nname: top\nfeedback: [{source: e9, target: e1}]\n",
    )
    assert message("top.yaml") == (
        "base.yaml:6:12 schedule.order: expected 'synchronous' or 'sweep', got 'sweap'\n"
        "  Did you mean 'sweep'?\n"
        "top.yaml:3:13 feedback[0].source: unknown node 'e9'\n  Choose from 'input', 'e1', 'e2'."
    )


def test_another_rule_replaces_all_dynamics(folder: Path) -> None:
    write(
        folder,
        base=BASE,
        top="extends: base.yaml\ndynamics: {rule: energy}\n",
        same="extends: base.yaml\ndynamics: {rule: predify, error: 0.2}\n",
    )
    assert load_spec("top.yaml").dynamics == EnergyDynamics(rule="energy")
    assert load_spec("top.yaml").locate(("dynamics", "nodes")) == "top.yaml:2:1"
    same = load_spec("same.yaml").dynamics
    assert isinstance(same, PredifyDynamics)
    assert (same.feedforward, same.error) == (0.4, 0.2)


def test_reset_takes_fields_out_of_what_is_extended(folder: Path) -> None:
    write(
        folder,
        base=BASE + "weights: feedback.safetensors\n",
        top="extends: base.yaml\nreset: [weights, dynamics.nodes, schedule]\n"
        "dynamics: {nodes: {e2: {error: 0.5}}}\n",
        above="extends: top.yaml\nname: above\nreset: [dynamics.feedforward]\n",
    )
    plain = BASE.replace("schedule: {order: sweep, steps: 5}\n", "")
    top = parse_spec(plain.replace("{e1: {feedforward: 0.2}}", "{e2: {error: 0.5}}"))
    assert load_spec("top.yaml") == top
    assert load_spec("above.yaml").dump() == {
        **top.dump(),
        "name": "above",
        "dynamics": {"rule": "predify", "nodes": {"e2": {"error": 0.5}}},
    }
    assert load_spec("top.yaml").locate(("schedule", "steps")) == "top.yaml:1:1"


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (
            "extends: base.yaml\nreset: [schedule, dynamics.node]\n",
            "top.yaml:2:19 reset[1]: 'base.yaml' has no field 'dynamics.node' to take out\n"
            "  Did you mean 'dynamics.nodes' or 'dynamics.nodes.e1' or 'dynamics'?",
        ),
        (
            "extends: base.yaml\nreset: [name.first]\n",
            "top.yaml:2:9 reset[0]: 'base.yaml' has no field 'name.first' to take out\n  Choose from 'name', "
            "'backbone', 'backbone.model', 'backbone.weights', 'nodes', 'nodes.e1', 'nodes.e2', "
            "'feedback', ....",
        ),
        (
            "extends: base.yaml\nreset: [7]\n",
            "top.yaml:2:9 reset[0]: 'base.yaml' has no field 7 to take out\n  Choose from 'name', "
            "'backbone', 'backbone.model', 'backbone.weights', 'nodes', 'nodes.e1', 'nodes.e2', "
            "'feedback', ....",
        ),
        (
            "extends: base.yaml\nreset: dynamics\n",
            "top.yaml:2:1 reset: expected a list of fields, got 'dynamics'",
        ),
        (
            BASE + "reset: [dynamics]\n",
            "top.yaml:7:1 reset: there is nothing to take them out of\n"
            "  Write 'extends', or leave 'reset' out.",
        ),
    ],
)
def test_reset_of_what_is_not_there(folder: Path, top: str, expected: str) -> None:
    write(folder, base=BASE, top=top)
    assert message("top.yaml") == expected


def test_extends_leads_on_and_across_formats(folder: Path) -> None:
    (folder / "parts").mkdir()
    write(folder / "parts", base=BASE)
    Path("middle.toml").write_text('extends = "parts/base.yaml"\nname = "middle"\n[schedule]\nsteps = 7\n')
    write(folder, top="extends: middle.toml\nschedule: {initial: zeros}\n")
    spec = load_spec("top.yaml")
    assert spec.name == "middle"
    assert (spec.schedule.order, spec.schedule.steps, spec.schedule.initial) == ("sweep", 7, "zeros")
    assert spec.locate(("schedule", "steps")) == "middle.toml:4:1"
    assert spec.locate(("schedule", "order")) == f"{Path('parts/base.yaml')}:6:12"


def test_extends_keeps_weights_beside_their_file(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "runs").mkdir()
    base = BASE.replace("weights: DEFAULT", "weights: vgg.pth") + "weights: ../feedback.safetensors\n"
    write(folder / "parts", base=base)
    write(folder / "runs", top="extends: ../parts/base.yaml\n")
    spec = load_spec("runs/top.yaml")
    assert spec.folder == Path("runs")
    assert spec.weights == "../feedback.safetensors"
    assert spec.backbone is not None
    assert spec.backbone.weights == "../parts/vgg.pth"


def test_extends_of_values_at_hand(folder: Path) -> None:
    write(folder, base=BASE)
    assert parse_spec({"extends": "base.yaml", "name": "top"}, folder=folder).name == "top"


def test_extends_in_a_circle(folder: Path) -> None:
    write(
        folder,
        a="extends: b.yaml\n",
        b="name: b\nextends: c.yaml\n",
        c="extends: b.yaml\n",
        d="extends: d.yaml\n",
    )
    hint = "\n  Let one of them stand alone."
    assert (
        message("a.yaml")
        == "c.yaml:1:1 extends: specs extend each other in a circle: b.yaml -> c.yaml -> b.yaml" + hint
    )
    assert (
        message("d.yaml")
        == "d.yaml:1:1 extends: specs extend each other in a circle: d.yaml -> d.yaml" + hint
    )


def test_extends_faults(folder: Path) -> None:
    write(
        folder,
        base=BASE,
        gone="name: x\nextends: bsae.yaml\n",
        typed="extends: 3\nname: n\nnodes: {a: {shape: [1]}}\nedges: [{source: a, target: a}]\n",
        open="nodes: [",
        over="extends: open.yaml\n",
    )
    assert (
        message("gone.yaml")
        == "gone.yaml:2:1 extends: 'bsae.yaml': no such file\n  Did you mean 'base.yaml'?"
    )
    assert message("typed.yaml") == "typed.yaml:1:1 extends: expected text, got 3\n  Put it in quotes."
    assert message("over.yaml").startswith("open.yaml:1:9: not valid YAML")


# ---- dumps --------------------------------------------------------------------------------------


def test_dump_is_short() -> None:
    spec = parse_spec(VGG)
    assert spec.dump() == {
        "name": "pvgg16",
        "backbone": {"model": "torchvision:vgg16", "weights": "DEFAULT"},
        "nodes": {"e1": "features.3", "e2": "features.8", "e3": {"module": "features.15", "delay": 2}},
        "feedback": [
            {
                "source": "e1",
                "target": "input",
                "predictor": [{"ConvTranspose2d": {"kernel_size": 5, "padding": 2}}, "ReLU"],
            },
            {"source": ["e2", "e3"], "target": "e1"},
            {"skip": 2},
        ],
        "dynamics": {
            "rule": "predify",
            "feedforward": 0.8,
            "feedback": 0.1,
            "gradient": "mean",
            "nodes": {"e1": {"feedforward": 0.2, "feedback": 0.05}},
        },
        "schedule": {"order": "sweep", "steps": 12, "tolerance": 0.001},
    }
    assert parse_spec(MINIMAL + "feedback: chain").dump()["feedback"] == "chain"


def test_yaml_text() -> None:
    assert to_yaml(parse_spec(MINIMAL + "feedback: chain\nschedule: {steps: 3}")) == (
        "name: demo\nbackbone: {model: 'torchvision:vgg16'}\nnodes: {e1: features.3, e2: features.8}\n"
        "feedback: chain\nschedule: {steps: 3}\n"
    )


ODD_TEXTS = [
    "no",
    "1e-3",
    "1E3",
    "null",
    "~",
    "true",
    "2024-01-01",
    "0x1F",
    "0o7",
    ".5",
    "5.",
    ".inf",
    "12:30",
    "- a",
    "a: b",
    "# a",
    "<<",
    "=",
    "é",
    "'",
    '"',
    " a ",
]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_text_that_looks_like_something_else_is_dumped_as_text(text: str) -> None:
    spec = parse_spec({"name": text, "backbone": {"model": "timm:x"}, "nodes": {"e1": text}})
    assert parse_spec(to_yaml(spec)) == spec
    assert yaml.safe_load(to_yaml(spec))["name"] == text


def test_equal_specs() -> None:
    spec = parse_spec(VGG)
    assert spec == parse_spec(spec.dump())
    assert spec != parse_spec(VGG.replace("padding: 2", "padding: 1"))
    assert spec != spec.dump()


def test_shipped_specs_are_valid() -> None:
    files = sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))
    assert files
    for file in files:
        spec = load_spec(file)
        assert parse_spec(to_yaml(spec), folder=spec.folder) == spec


def test_reading_specs_needs_no_torch() -> None:
    code = "import pcgraph.spec, sys; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
