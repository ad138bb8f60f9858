"""What the commands say of gains: those that run away, those that do nothing, and ``error: auto``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pcgraph import build, load_spec
from pcgraph.analysis.stability import edge_limits

from .conftest import SMALL, Cli

DYNAMICS = "dynamics: {error: 0.001, nodes: {e2: {error: 40.0}}}\n"


class Loud(nn.Sequential):
    """A backbone whose maps grow: it and untrained feedback make each other louder."""

    def __init__(self) -> None:
        super().__init__(*(nn.Conv2d(c, 8, 3, stride=2, padding=1) for c in (3, 8, 8)))
        with torch.no_grad():
            for layer, size in zip(self, (1.0, 40.0, 40.0), strict=True):
                layer.weight.normal_(0, size / 9, generator=torch.Generator().manual_seed(1))
                layer.bias.zero_()


class Deafening(Loud):
    """As deep networks with random weights: each map is thousands of times as large as the one below."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            for layer in list(self)[1:]:
                layer.weight.mul_(1000)


def test_check_names_the_edge_the_factor_and_a_value_that_holds(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    build("small.yaml", trust=True, seed=5).save_weights("w.safetensors")
    dynamics = f"{DYNAMICS}weights: w.safetensors\n"
    (tmp_path / "bad.yaml").write_text(SMALL + dynamics)
    outcome = cli("check", "bad.yaml", "--trust", "--json")
    assert outcome.status == 0
    (warning,) = outcome.json["warnings"]
    assert warning["where"] == "bad.yaml:6:39"
    assert warning["field"] == "dynamics.nodes.e2.error"
    limit = next(one for one in edge_limits(build("bad.yaml", trust=True)) if one.source == "e2" and one.gain)
    said = re.fullmatch(
        r"edge 'e2->e1' carries errors back to 'e2' ([\d.]+) times as strongly as it bears",
        warning["message"],
    )
    assert said is not None
    factor = float(said[1])
    assert factor == pytest.approx(40 / limit.limit, rel=0.01)
    value = warning["hint"].split("'")[1]
    assert float(value.removeprefix("error: ")) == pytest.approx(10 / factor, rel=0.05)
    (tmp_path / "good.yaml").write_text(SMALL + dynamics.replace("error: 40.0", value))
    assert cli("check", "good.yaml", "--trust", "--json").json["warnings"] == []
    (tmp_path / "auto.yaml").write_text(SMALL + dynamics.replace("error: 40.0", "error: auto"))
    assert cli("check", "auto.yaml", "--trust", "--json").json["warnings"] == []
    assert "Warning: bad.yaml:6:39 dynamics.nodes.e2.error: edge" in cli("check", "bad.yaml", "--trust").out


@pytest.mark.parametrize(
    ("gains", "message"),
    [
        ("e3: {feedback: 0.2}", "0.2 does nothing: 'e3' receives no feedback prediction"),
        ("input: {feedback: 0.1}", "0.1 does nothing: 'input' is the image, which is held"),
        ("input: {error: auto}", "auto does nothing: 'input' is the image, which is held"),
        ("e3: {feedback: 0, error: 0.001}", None),
    ],
)
def test_check_tells_what_does_nothing(cli: Cli, tmp_path: Path, gains: str, message: str | None) -> None:
    (tmp_path / "a.yaml").write_text(f"{SMALL}dynamics: {{error: 0.001, nodes: {{{gains}}}}}\n")
    found = [one["message"] for one in cli("check", "a.yaml", "--trust", "--json").json["warnings"]]
    assert found == ([message] if message else [])


def test_check_tells_when_all_edges_set_their_own(cli: Cli, tmp_path: Path) -> None:
    own = "feedback: [{source: e2, target: e1, gain: 0.1, error: 0.0}]"
    text = (
        SMALL.replace("feedback: chain", own) + "dynamics: {nodes: {e1: {feedback: 0.2}, e2: {error: 0.1}}}\n"
    )
    (tmp_path / "a.yaml").write_text(text)
    found = [one["message"] for one in cli("check", "a.yaml", "--trust", "--json").json["warnings"]]
    assert found == [
        "0.2 does nothing: every feedback edge into 'e1' sets its own 'gain'",
        "0.1 does nothing: 'e2' makes no feedback prediction",
    ]


@pytest.mark.parametrize("rate", [0.1, 3.0])
def test_check_looks_at_the_whole_step_without_a_backbone(cli: Cli, tmp_path: Path, rate: float) -> None:
    text = "name: free\nnodes: {a: {shape: [4]}, b: {shape: [4]}, c: {shape: [3]}}\n"
    text += (
        "edges: [{source: a, target: b, predictor: [Linear]}, {source: b, target: c, predictor: [Linear]}]\n"
    )
    (tmp_path / "a.yaml").write_text(f"{text}dynamics: {{rule: energy, rate: {rate}}}\n")
    warnings = cli("check", "a.yaml", "--json").json["warnings"]
    assert len(warnings) == (rate == 3.0)
    for one in warnings:
        assert one["message"].startswith("a whole step makes a small change")
        factor = float(one["hint"].split()[4])  # Lower the rates to F times what they are.
        (tmp_path / "b.yaml").write_text(f"{text}dynamics: {{rule: energy, rate: {0.97 * rate * factor}}}\n")
        assert cli("check", "b.yaml", "--json").json["warnings"] == []
        (tmp_path / "c.yaml").write_text(f"{text}dynamics: {{rule: energy, rate: {1.05 * rate * factor}}}\n")
        assert len(cli("check", "c.yaml", "--json").json["warnings"]) == 1


@pytest.mark.heavy
def test_show_tells_the_numbers_of_auto(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SMALL + "dynamics: {error: auto}\n")
    edges = {edge["name"]: edge for edge in cli("show", "a.yaml", "--trust", "--json").json["edges"]}
    assert 0 < edges["e2->e1"]["error"]["e2"] < 100
    (tmp_path / "b.yaml").write_text(
        "name: b\nbackbone: {model: torchvision:resnet18, weights: DEFAULT, input: [3, 64, 64]}\n"
        "nodes: {e1: relu, e2: layer1}\nfeedback: chain\ndynamics: {error: auto}\n"
    )
    edges = {edge["name"]: edge for edge in cli("show", "b.yaml", "--json").json["edges"]}
    assert edges["e2->e1"]["error"] == {"e2": "auto"}  # its weights would have to be downloaded
    assert "α auto" in cli("show", "b.yaml").out


def test_run_tells_why_states_grew(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(SMALL + DYNAMICS)
    outcome = cli("run", "bad.yaml", "random", "--trust", "--steps", 4, "--out", "out", "--json")
    assert outcome.status == 0
    grew, why = outcome.json["warnings"]
    assert "the state of 'e2' grew to" in grew
    assert "edge 'e2->e1' carries errors back to 'e2'" in why
    far = cli("run", "bad.yaml", "random", "--trust", "--steps", 400, "--out", "far")
    assert far.status != 0
    assert "is not finite after step" in far.err
    assert "edge 'e2->e1' carries errors back to 'e2'" in far.err


@pytest.mark.heavy
def test_new_lowers_lambda_until_the_states_stay(cli: Cli, tmp_path: Path) -> None:
    arguments = ("--input", "3,16,16", "--trust", "--json")
    assert cli("new", "python:tests.goldens.nets:chain", "-o", "quiet.yaml", *arguments).status == 0
    assert load_spec(tmp_path / "quiet.yaml").dynamics.feedback == 0.3
    assert cli("new", "python:tests.cli.test_gains:Loud", "-o", "loud.yaml", *arguments).status == 0
    spec = load_spec(tmp_path / "loud.yaml")
    assert spec.dynamics.feedback < 0.3
    assert spec.dynamics.error == "auto"
    outcome = cli("run", "loud.yaml", "random", "--trust", "--steps", 50, "--out", "out", "--json")
    assert outcome.json["warnings"] == []


@pytest.mark.heavy
def test_new_says_that_no_feedback_holds(cli: Cli, tmp_path: Path) -> None:
    model = "python:tests.cli.test_gains:Deafening"
    outcome = cli("new", model, "-o", "a.yaml", "--input", "3,16,16", "--trust")
    assert load_spec(tmp_path / "a.yaml").dynamics.feedback == 0
    assert "would run away with 'feedback: 0.003' and more; it is 0" in " ".join(outcome.out.split())
    np.savez("some.npz", x=np.random.default_rng(0).standard_normal((4, 3, 16, 16), np.float32))
    given = ("some.npz", "--epochs", 1, "--tracker", "none", "--trust", "--out", "b", "--json")
    assert cli("train", "a.yaml", *given).status == 0  # as it says: predictions learn all the same
