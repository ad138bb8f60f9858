"""``analyse``: what it prints and writes, against the functions and against runs by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pcgraph as pcg
from pcgraph.analysis.similarity import linear_cka
from pcgraph.datasets import open_data

from .conftest import Cli

MLP = """\
name: mlp
nodes: {a: {shape: [3]}, b: {shape: [4]}, c: {shape: [2]}}
edges:
  - {source: a, target: b, predictor: [Linear, Tanh]}
  - {source: b, target: c, predictor: [Linear], delay: 2}
feedback: [{source: c, target: b, predictor: [Linear]}]
dynamics: {rule: energy, rate: RATE}
schedule: {steps: 4}
"""
TABLES = {"stability", "modes", "cost", "units", "lesions", "gains", "similarity"}


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    file = tmp_path / "mlp.yaml"
    file.write_text(MLP.replace("RATE", "0.2"))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    return file


@pytest.mark.heavy
def test_every_table_is_printed_and_written(cli: Cli, mlp: Path, tmp_path: Path) -> None:
    outcome = cli("analyse", "mlp.yaml", "--images", "x.npy", "--out", "out")
    assert outcome.status == 0, outcome.err
    for title in (
        "In the long run",
        "Leading modes",
        "Cost",
        "Errors per unit",
        "Without an edge",
        "Gradient",
    ):
        assert title in outcome.out
    written = {path.stem for path in (tmp_path / "out").glob("*.csv")}
    assert written == TABLES
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["kind"] == "analyse"
    assert set(record["files"]) == {f"{name}.csv" for name in TABLES}
    assert record["networks"]["mlp"]["schedule"]["steps"] == 4


def test_the_numbers_are_those_of_a_run(cli: Cli, mlp: Path, tmp_path: Path) -> None:
    asked = ("--analysis", "units", "--analysis", "similarity", "--analysis", "stability", "--export")
    found = cli("analyse", "mlp.yaml", "--images", "x.npy", "--out", "out", "--json", *asked).json
    scheduler = pcg.Scheduler(pcg.build(mlp))
    images = torch.from_numpy(np.load(tmp_path / "x.npy"))
    run = scheduler.run(images, record=["values", "errors"])
    for row in found["units"]:
        error = run.errors[row["term"]][row["step"]]
        assert row["error"] == pytest.approx(float(error.square().mean().sqrt()), rel=1e-5)
    for row in found["similarity"]:
        one = run.values[row["node"]][row["step"]].flatten(1)
        other = run.values[row["other_node"]][row["other_step"]].flatten(1)
        expected = linear_cka(one, other)
        assert row["cka"] is None if np.isnan(expected) else row["cka"] == pytest.approx(expected, abs=1e-5)
    assert len(found["similarity"]) == 15 * 14 // 2
    with np.load(tmp_path / "out" / "states-0-0.npz") as states:
        assert states["images"].tolist() == found["images"]
        assert np.array_equal(states["values:b"], torch.stack(run.values["b"]).numpy())
    radius = pcg.spectral_radius(scheduler, scheduler.run(images, 300, record=[]).state, tolerance=1e-6)
    assert found["modes"][0]["modulus"] == pytest.approx(radius, rel=1e-4)
    assert {row["outcome"] for row in found["stability"]} == {"settled"}


@pytest.mark.heavy
def test_classes_come_with_images_of_data_sets(cli: Cli, tmp_path: Path) -> None:
    asked = ("--images", "digits:test:0-4", "--images", "digits:test:7", "--analysis", "lesions")
    found = cli("analyse", "digits", *asked, "--steps", "2", "--json").json
    data = open_data("digits", "test", shape=(1, 28, 28))
    items = [data.item(place) for place in (0, 1, 2, 3, 4, 7)]
    images, labels = torch.stack([one.image for one in items]), torch.tensor([one.label for one in items])
    network = pcg.build("digits")
    whole = pcg.Scheduler(network).run(images, 2).output[-1]
    spec = network.spec.dump()
    spec["dynamics"]["nodes"]["e3"]["error"] = 0.0  # e3->e2 without what it does to its source
    spec["feedback"][2]["gain"] = 0.0
    spec["dynamics"]["share"] = {"feedback": "edge"}
    cut = pcg.Scheduler(pcg.build(pcg.parse_spec(spec))).run(images, 2).output[-1]
    row = next(one for one in found["lesions"] if one["term"] == "e3->e2")
    rise = F.cross_entropy(cut, labels) - F.cross_entropy(whole, labels)
    assert row["loss"] == pytest.approx(float(rise), abs=1e-5)


@pytest.mark.heavy
def test_networks_and_conditions_are_compared(cli: Cli, tmp_path: Path) -> None:
    """A spec, and the run folder of another."""
    spec = "extends: digits\nname: other\nfeedback: none\nweights: null\n"
    (tmp_path / "other.yaml").write_text(spec)
    ran = cli("run", "other.yaml", "digits:test:0", "--steps", "1", "--out", "ran")
    assert ran.status == 0, ran.err
    asked = ("--images", "digits:test:0-3", "--noise", "gaussian:0.5", "--steps", "1")
    outcome = cli("analyse", "digits", "ran", *asked, "--analysis", "similarity", "--json")
    found = outcome.json["similarity"]
    ends = {(row["network"], row["condition"]) for row in found}
    assert ends == {(name, c) for name in ("digits", "ran") for c in ("clean", "gaussian:0.5")}
    first = {"network": "digits", "other_network": "ran", "step": 0, "other_step": 0}
    same = [row for row in found if first.items() <= row.items() and row["condition"] == "clean"]
    same = [row for row in same if row["other_condition"] == "clean" and row["node"] == row["other_node"]]
    assert [row["cka"] for row in same] == pytest.approx([1.0] * 4)  # both start as the plain network


def test_a_network_that_runs_away_is_told_and_not_the_end(cli: Cli, mlp: Path, tmp_path: Path) -> None:
    mlp.write_text(MLP.replace("RATE", "1e4"))
    outcome = cli("analyse", "mlp.yaml", "--images", "x.npy", "--steps", "40", "--out", "out", "--json")
    assert outcome.status == 0, outcome.err
    assert {row["outcome"] for row in outcome.json["stability"]} == {"diverged"}
    assert outcome.json["modes"][0]["modulus"] > 1
    assert "no similarity" in " ".join(outcome.json["notes"])
    assert rows(tmp_path / "out" / "stability.csv")[0]["steps"] == ""


def test_adam_has_no_modes(cli: Cli, mlp: Path) -> None:
    mlp.write_text(MLP.replace("RATE", "0.1, optimizer: adam"))
    outcome = cli("analyse", "mlp.yaml", "--images", "x.npy", "--analysis", "stability", "--json")
    assert outcome.json["modes"] == []
    assert "depend on the time" in outcome.json["notes"][0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mlp.yaml", "--analysis", "stabilty"), "no analysis 'stabilty'"),
        (("mlp.yaml", "mlp.yaml"), "given twice"),
        (("empty",), "holds no 'spec.yaml'"),
        (("mlp.yaml", "--dtype", "bfloat16"), "too coarse"),
        (("digits", "--images", "nothing.npy"), "nothing.npy"),
        (("mlp.yaml", "digits", "--images", "x.npy"), "x.npy"),
        (("mlp.yaml", "--noise", "snow:1"), "snow"),
    ],
)
def test_what_does_not_fit_is_refused(
    cli: Cli, mlp: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    outcome = cli("analyse", *words, "--out", "out")
    assert outcome.status == 2
    assert message in outcome.err
    assert not (tmp_path / "out").exists()
