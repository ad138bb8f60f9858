"""``train``: what it writes, says and refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pcgraph as pcg

from .conftest import Cli

COMMON = ("--trust", "--tracker", "none", "--device", "cpu", "--epochs", "2", "--batch", "4")


def test_writes_a_folder_that_runs(cli: Cli, small: Path, pictures: str, tmp_path: Path) -> None:
    outcome = cli("train", "small.yaml", "--data", pictures, *COMMON, "--out", "out", "--lr", "0.01")
    assert outcome.status == 0, outcome.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"spec.yaml", "run.json", "losses.csv", "weights.safetensors", "checkpoints"} <= names
    trained = pcg.build(tmp_path / "out" / "spec.yaml", trust=True)
    untrained = pcg.build(small, trust=True)
    assert trained.feedback_trained
    before = untrained.predictors.state_dict()
    assert not any(torch.equal(v, before[n]) for n, v in trained.predictors.state_dict().items())
    assert set(load_file(tmp_path / "out" / "weights.safetensors")) == set(before)
    with (tmp_path / "out" / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert {row["name"] for row in rows} == {"e1->input", "e2->e1", "e3->e2", "total"}
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["kind"], record["finished"], record["steps"]) == ("train", True, 4)
    assert (record["images"], record["held_out"]) == (9, 1)
    assert record["settings"]["optimizer"]["lr"] == 0.01
    assert "validation: e1->input" in outcome.out
    assert outcome.out.endswith("Run folder: out\n")
    assert cli("run", "out/spec.yaml", "photos:coffee", "--trust", "-q").status == 0


def test_json_is_all_there_is(cli: Cli, small: Path, pictures: str) -> None:
    data = cli("train", "small.yaml", "--data", pictures, *COMMON, "--json").json
    assert data["finished"] is True
    assert len(data["epochs"]) == 2
    first, second = (epoch["train"]["total"] for epoch in data["epochs"])
    assert second < first
    assert Path(data["folder"]).parent.name == "runs"


def test_the_section_of_the_spec_and_the_options_above_it(cli: Cli, small: Path, pictures: str) -> None:
    small.write_text(small.read_text() + f"train: {{data: '{pictures}', batch: 3, validation: 0}}\n")
    data = cli("train", "small.yaml", *COMMON[:5], "--epochs", "1", "--json").json
    assert data["steps"] == 3
    assert list(data["epochs"][0]) == ["train"]
    assert (
        cli("train", "small.yaml", *COMMON[:5], "--epochs", "1", "--batch", "9", "--json").json["steps"] == 1
    )


def test_a_finished_training_that_is_resumed_is_left_as_it_is(
    cli: Cli, small: Path, pictures: str, tmp_path: Path
) -> None:
    arguments = ("train", "small.yaml", "--data", pictures, *COMMON, "--out", "out")
    assert cli(*arguments, "--resume", "-q").status == 0  # nothing there: begins
    before = [(tmp_path / "out" / name).read_bytes() for name in ("losses.csv", "weights.safetensors")]
    outcome = cli(*arguments, "--resume", "--json")
    assert outcome.json["resumed_at"] == outcome.json["steps"] == 4
    assert before == [
        (tmp_path / "out" / name).read_bytes() for name in ("losses.csv", "weights.safetensors")
    ]
    outcome = cli(*arguments, "--resume", "--seed", "3")
    assert outcome.status == 2
    assert "another training is in this folder: it differs in seed" in outcome.err


def test_force_begins_anew(cli: Cli, small: Path, pictures: str, tmp_path: Path) -> None:
    arguments = ("train", "small.yaml", "--data", pictures, *COMMON, "--out", "out", "-q")
    assert cli(*arguments).status == 0
    outcome = cli(*arguments)
    assert outcome.status == 2
    assert "exists already" in outcome.err
    assert cli(*arguments, "--force", "--epochs", "1").status == 0
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 1


def test_broken_files_are_named_or_left_out(cli: Cli, small: Path, pictures: str, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "odd" / "broken.png").write_bytes(b"no picture")
    arguments = ("train", "small.yaml", "--data", pictures, *COMMON)
    outcome = cli(*arguments)
    assert outcome.status == 2
    assert "broken.png: no image file that can be read" in outcome.err
    outcome = cli(*arguments, "--skip-broken", "--json")
    assert outcome.json["skipped"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nobody says which images to train on"),
        (("--data", "folder:nowhere"), "nowhere"),
        (("--data", "digits", "--lr", "-1"), "--lr: input should be greater than 0"),
        (("--data", "digits", "--precision", "double"), "--precision: input should be 'float32'"),
        (("--data", "digits", "--resume"), "--resume needs the folder"),
        (("--data", "digits", "--device", "cuda:99"), "there is no device 'cuda:99' here"),
        (("--data", "digits", "--tracker", "tensorbord"), "there is no tracker 'tensorbord'"),
    ],
)
def test_refuses(cli: Cli, small: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    outcome = cli("train", "small.yaml", "--trust", *options)
    assert outcome.status == 2
    assert message in outcome.err
    assert not (tmp_path / "runs").exists()
