"""``tune``: what it writes, says and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pcgraph as pcg

from .conftest import Cli

COMMON = ("--trust", "--tracker", "none", "--device", "cpu", "--epochs", "1", "--batch", "4")


@pytest.mark.heavy
def test_writes_a_spec_that_holds_the_tuned_numbers(
    cli: Cli, small: Path, pictures: str, tmp_path: Path
) -> None:
    small.write_text(small.read_text() + "tune: {steps: [1, 3], noise: {gaussian: [0, 1]}, batch: 4}\n")
    outcome = cli("tune", "small.yaml", "--data", pictures, *COMMON, "--out", "out", "--lr", "0.1")
    assert outcome.status == 0, outcome.err
    assert "e1" in outcome.out
    assert "Run folder: out\n" in outcome.out
    tuned = pcg.load_spec(tmp_path / "out" / "spec.yaml")
    assert set(tuned.dynamics.nodes) == {"e1", "e2", "e3"}
    for gains in tuned.dynamics.nodes.values():
        assert gains.feedforward + gains.feedback < 1
    assert tuned.dynamics.nodes["e1"].feedforward != pytest.approx(0.3, abs=1e-3)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["kind"], record["finished"], record["steps"]) == ("tune", True, 2)
    assert cli("run", "out/spec.yaml", "photos:coffee", "--trust", "-q").status == 0


def test_a_second_tuning_in_the_same_folder_needs_a_word(cli: Cli, small: Path, pictures: str) -> None:
    arguments = ("tune", "small.yaml", "--data", pictures, *COMMON, "--out", "out", "--json")
    first = cli(*arguments).json
    assert {"cross_entropy"} == set(first["epochs"][0]["train"])
    assert {"accuracy", "accuracy at step 0"} < set(first["epochs"][0]["validation"])
    assert cli(*arguments).status == 2
    assert cli(*arguments, "--force").json["epochs"] == first["epochs"]


def test_refuses_images_without_classes(cli: Cli, small: Path) -> None:
    outcome = cli("tune", "small.yaml", "--data", "photos", *COMMON, "--json")
    assert outcome.status == 2
    assert "no classes to tune for" in outcome.faults[0]["message"]


def test_refuses_networks_without_classes(cli: Cli) -> None:
    outcome = cli("tune", "pc_mlp", "--data", "digits", *COMMON, "--json")
    assert outcome.status == 2
    assert "no class scores" in outcome.faults[0]["message"]


def test_a_tuning_that_makes_answers_worse_is_warned_of() -> None:
    from pcgraph.cli.tune import worse

    last = {"accuracy": 0.7, "accuracy at step 0": 0.9, "cross_entropy": 1.0}
    assert "70.0% of the held-out" in worse([{"train": {}, "validation": last}])[0]
    assert worse([{"train": {}, "validation": {**last, "accuracy": 0.9}}]) == []
    assert worse([{"train": {"cross_entropy": 1.0}}]) == worse([]) == []
