"""``trace``, ``new``, ``check`` and ``show``."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pcgraph import load_spec

from .conftest import SMALL, Cli

CHAIN = "python:tests.goldens.nets:chain"


# ---- trace ---------------------------------------------------------------------------------------


def test_trace_lists_the_candidates(cli: Cli) -> None:
    outcome = cli("trace", CHAIN, "--input", "3,16,16", "--trust", "--json")
    assert outcome.status == 0
    rows = {row["name"]: row for row in outcome.json["candidates"]}
    assert rows["3"]["shape"] == [12, 8, 8]
    assert rows["2"]["cost"] == 12 * 8 * 8 * 8 * 9  # a 3x3 convolution of 8 channels to 12, on 8x8
    table = cli("trace", CHAIN, "--input", "3,16,16", "--trust").out
    assert "12x8x8" in table
    assert "ReLU" in table


def test_trace_names_close_matches_for_an_unknown_model(cli: Cli) -> None:
    outcome = cli("trace", "torchvision:resnet81")
    assert (outcome.status, outcome.out) == (2, "")
    assert "torchvision has no model 'resnet81'\n  Did you mean 'resnet18'" in outcome.err


def test_trace_does_not_run_foreign_code_without_trust(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "evil_net.py").write_text("raise SystemExit('it ran')\n")
    outcome = cli("trace", "python:evil_net:Net")
    assert outcome.status == 2
    assert "--trust" in outcome.err
    assert "it ran" not in outcome.err


def test_what_foreign_code_prints_stays_out_of_json(cli: Cli, tmp_path: Path) -> None:
    text = "from torch import nn\nprint('hello')\nNet = lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU())\n"
    (tmp_path / "loud_net.py").write_text(text)
    outcome = cli("trace", "python:loud_net:Net", "--input", "4", "--trust", "--json")
    assert outcome.status == 0
    assert [row["name"] for row in outcome.json["candidates"]] == ["0", "1"]


# ---- new -----------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_new_writes_a_spec_that_check_accepts(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("new", "torchvision:resnet18", "-o", "r.yaml", "--input", "3,64,64")
    assert outcome.status == 0
    assert "e5  layer4.1.relu_1  512x2x2" in outcome.out
    spec = load_spec(tmp_path / "r.yaml")
    assert spec.backbone is not None
    assert spec.backbone.input == (3, 64, 64)
    assert [node.module for node in spec.nodes.values()][-1] == "layer4.1.relu_1"
    assert spec.feedback == ["chain"]
    assert cli("check", "r.yaml", "-q").status == 0
    text = (tmp_path / "r.yaml").read_text()
    for field in (
        "feedforward: 0.3",
        "feedback: 0.3",
        "error: auto",
        "steps: 10",
    ):  # what people change first
        assert field in text


def test_new_points_at_a_schema_that_is_there(cli: Cli, tmp_path: Path) -> None:
    hint = "# yaml-language-server: $schema=spec.schema.json\n"
    cli("new", CHAIN, "-o", "a.yaml", "--input", "3,16,16", "--trust")
    assert not (tmp_path / "a.yaml").read_text().startswith(hint)
    cli("schema", "-o", "spec.schema.json")
    outcome = cli("new", CHAIN, "-o", "b.yaml", "--input", "3,16,16", "--trust", "--json")
    assert outcome.json["nodes"] == dict(load_spec(tmp_path / "b.yaml").dump()["nodes"])
    assert (tmp_path / "b.yaml").read_text().startswith(hint)


def test_new_names_weight_files_as_seen_from_the_spec(cli: Cli, tmp_path: Path) -> None:
    from tests.goldens.nets import chain

    save_file(chain().state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "specs").mkdir()
    arguments = ("--input", "3,16,16", "--trust", "--weights", "w.safetensors")
    assert cli("new", CHAIN, "-o", "specs/a.yaml", *arguments).status == 0
    spec = load_spec(tmp_path / "specs" / "a.yaml")
    assert spec.backbone is not None
    assert spec.backbone.weights == "../w.safetensors"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["torchvision:resnet18", "-o", "there.yaml"], "there.yaml: exists already"),
        (
            ["torchvision:resnet18", "-o", "new.png"],
            "new.png: expected a file that ends in .yaml or .yml, got '.png'",
        ),
        (["torchvision:resnet18", "-o", "no/new.yaml"], "no/new.yaml: there is no folder 'no'"),
        (["torchvision:resnet18", "-o", "there.yaml/new.yaml"], "there is no folder 'there.yaml'"),
        (["torchvision:resnet81", "-o", "new.yaml"], "torchvision has no model 'resnet81'"),
        (["torchvision:resnet18", "-o", "new.yaml", "--weights", "DEFUALT"], "Did you mean 'DEFAULT'?"),
        (
            ["torchvision:vgg16", "-o", "new.yaml", "--input", "3,4,4"],
            "cannot take an input of shape (3, 4, 4)",
        ),
    ],
)
def test_new_writes_nothing_where_something_is_wrong(
    cli: Cli, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "there.yaml").write_text("mine")
    outcome = cli("new", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert "<text>" not in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"]
    assert (tmp_path / "there.yaml").read_text() == "mine"


# ---- check ---------------------------------------------------------------------------------------


def test_check_sums_up_a_valid_spec(cli: Cli, small: Path) -> None:
    outcome = cli("check", "small.yaml", "--trust")
    assert outcome.status == 0
    assert outcome.out.startswith("small.yaml: OK\n")
    assert "3 feedforward, 3 feedback" in outcome.out
    facts = cli("check", "small.yaml", "--trust", "--json").json
    assert facts["ok"] is True
    assert [node["name"] for node in facts["nodes"]] == ["input", "e1", "e2", "e3"]
    assert cli("check", "small.yaml", "--trust", "--quiet").out == ""


def test_check_counts_the_work_of_a_step(cli: Cli) -> None:
    # 784-256-64-10 with the image held: the first edge is constant, the others run forward and back
    assert cli("check", "pc_mlp", "--json").json["cost"] == 2 * (256 * 64 + 64 * 10)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "spec", [pytest.param("vgg16", marks=pytest.mark.heavy), "resnet18", "efficientnet_b0"]
)
def test_check_needs_no_weights(cli: Cli, spec: str) -> None:
    assert cli("check", spec).status == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('e2: "3"', 'e2: "33"', "small.yaml:3:18 nodes.e2: the model has no node '33'\n  Did you mean '3'"),
        (
            "steps: 2",
            "stpes: 2",
            "small.yaml:5:26 schedule.stpes: unknown field 'stpes'\n  Did you mean 'steps'?",
        ),
        ("goldens.nets", "goldens.nest", "small.yaml:2:12 backbone.model: "),
        ("[3, 16, 16]", "[3, 16]", "small.yaml:2:"),
        ("feedback: chain", "feedback: chian", "unknown pattern 'chian'\n  Did you mean 'chain'?"),
    ],
)
def test_check_places_every_fault(cli: Cli, small: Path, old: str, new: str, message: str) -> None:
    small.write_text(SMALL.replace(old, new))
    outcome = cli("check", "small.yaml", "--trust")
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    faults = cli("check", "small.yaml", "--trust", "--json").faults
    assert faults[0]["where"].startswith("small.yaml:")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("model: torchvision:resnet81", "a.yaml:2:12 backbone.model: torchvision has no model 'resnet81'"),
        ("model: torchvision:resnet18, weights: DEFUALT", "a.yaml:2:41 backbone.weights: "),
        ("model: timm:resnet18, weights: DEFUALT", "a.yaml:2:34 backbone.weights: "),
        (
            "model: torchvision:resnet18, weights: gone.pth",
            "a.yaml:2:41 backbone.weights: there is no weight file",
        ),
    ],
)
def test_check_places_faults_of_the_model(cli: Cli, tmp_path: Path, backbone: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(f"name: a\nbackbone: {{{backbone}}}\nnodes: {{e1: relu}}\n")
    outcome = cli("check", "a.yaml")
    assert outcome.status == 2
    assert message in outcome.err


def test_check_lists_all_faults(cli: Cli, small: Path) -> None:
    small.write_text(SMALL.replace('e1: "1", e2: "3"', 'e1: "11", e2: "33"'))
    outcome = cli("check", "small.yaml", "--trust")
    assert outcome.err.count("the model has no node") == 2
    assert outcome.err.endswith("2 faults.\n")


def test_check_compares_weight_files(cli: Cli, small: Path, tmp_path: Path) -> None:
    save_file({"nonsense": torch.zeros(2)}, tmp_path / "w.safetensors")
    small.write_text(SMALL.replace("input:", "weights: w.safetensors, input:"))
    outcome = cli("check", "small.yaml", "--trust")
    assert outcome.status == 2
    assert "backbone.weights: " in outcome.err
    assert "not in the model (nonsense)" in outcome.err
    small.write_text(SMALL + "weights: w.safetensors\n")
    outcome = cli("check", "small.yaml", "--trust")
    assert outcome.status == 2
    assert "small.yaml:6:1 weights: " in outcome.err
    small.write_text(SMALL + "weights: v.safetensors\n")
    assert "there is no weight file 'v.safetensors'" in cli("check", "small.yaml", "--trust").err


def test_check_knows_shipped_specs_by_name(cli: Cli) -> None:
    outcome = cli("check", "vgg61")
    assert outcome.status == 2
    assert outcome.err == "no such file, and no shipped spec is called 'vgg61'\n  Did you mean 'vgg16'?\n"
    assert "no such file" in cli("check", "vgg61.yaml").err


# ---- show ----------------------------------------------------------------------------------------


def test_show_prints_a_tree(cli: Cli, small: Path) -> None:
    lines = cli("show", "small.yaml", "--trust").out.splitlines()
    assert lines[0].startswith("small   rule predify")
    nodes = [line.split()[1] for line in lines if line.startswith(("├── ", "└── "))]
    assert nodes == ["e3", "e2", "e1", "input"]
    assert any("← e1" in line and "β 0.3" in line and "delay 0" in line for line in lines)
    assert any("⇠ e2" in line and "λ 0.3  α 0.01" in line and "delay 1" in line for line in lines)


def test_show_as_json(cli: Cli, small: Path) -> None:
    edges = {edge["name"]: edge for edge in cli("show", "small.yaml", "--trust", "--json").json["edges"]}
    assert edges["e1->e2"] == {
        "name": "e1->e2",
        "kind": "feedforward",
        "sources": ["e1"],
        "target": "e2",
        "predictor": "backbone",
        "delay": 0,
        "bundle": None,
        "gain": 0.3,
        "error": {"e1": 0.0},
    }
    assert edges["e2->e1"]["error"] == {"e2": 0.01}


def test_show_draws(cli: Cli, small: Path, tmp_path: Path) -> None:
    outcome = cli("show", "small.yaml", "-o", "small.svg", "--trust")
    assert (outcome.status, outcome.out) == (0, "Drew small.svg\n")
    assert ET.parse(tmp_path / "small.svg").getroot().tag.endswith("svg")
    first = (tmp_path / "small.svg").read_bytes()
    assert cli("show", "small.yaml", "-o", "small.svg", "--trust", "--force").status == 0
    assert (tmp_path / "small.svg").read_bytes() == first
    assert cli("show", "small.yaml", "-o", "small.png", "--trust").status == 0
    with Image.open(tmp_path / "small.png") as picture:
        assert min(picture.size) > 300
    assert cli("show", "small.yaml", "-o", "small.jpg", "--trust").err == (
        "small.jpg: expected a file that ends in .svg or .png, got '.jpg'\n"
    )
