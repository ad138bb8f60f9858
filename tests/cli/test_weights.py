"""Weight files on the command line: notes, run folders that know their files, paths with odd letters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import pcgraph as pcg
from pcgraph.files.digest import digest
from tests.goldens.nets import chain

from .conftest import Cli

NET = "python:tests.goldens.nets:chain"


def wrapped(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {f"module.{name}": value for name, value in chain().state_dict().items()}


def with_weights(small: Path, weights: object) -> None:
    spec = yaml.safe_load(small.read_text())
    spec["backbone"]["weights"] = weights
    small.write_text(yaml.safe_dump(spec))


@pytest.mark.heavy
def test_a_prefix_is_a_note_of_one_line(cli: Cli, small: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": wrapped()}, tmp_path / "last.ckpt")
    with_weights(small, "last.ckpt")
    for options in ((), ("--json",), ("--quiet",)):
        outcome = cli(
            "run", "small.yaml", "random", "--trust", "--out", f"run{len(options)}", "--force", *options
        )
        assert outcome.status == 0, outcome.err
        notes = [line for line in outcome.err.splitlines() if "taken off" in line]
        assert len(notes) == 1
        assert notes[0].startswith("Note: 'last.ckpt': the weights are those under 'state_dict.module'")
        assert "Warning" not in outcome.err
        assert "Note" not in outcome.out


def test_a_run_folder_knows_its_weight_file(cli: Cli, small: Path, tmp_path: Path) -> None:
    torch.save(wrapped(1), tmp_path / "w.ckpt")
    with_weights(small, "w.ckpt")
    assert cli("run", "small.yaml", "random", "--trust", "--out", "run").status == 0
    written = yaml.safe_load((tmp_path / "run" / "spec.yaml").read_text())
    file = (tmp_path / "w.ckpt").resolve()
    assert written["backbone"]["weights"] == {"file": str(file), "sha256": digest(file)}
    again = ("run", "run/spec.yaml", "random", "--trust", "--out", "again", "--force")
    assert cli(*again).status == 0
    torch.save(wrapped(2), tmp_path / "w.ckpt")
    for command in (again, ("check", "run/spec.yaml", "--trust")):
        outcome = cli(*command, "--json")
        assert outcome.status == 2
        (fault,) = outcome.faults
        assert fault["path"] == ["backbone", "weights"]
        assert fault["where"].startswith("run/spec.yaml:")
        assert "is another file than the spec means" in fault["message"]


@pytest.mark.heavy
def test_new_and_check_with_paths_that_look_like_something_else(cli: Cli, tmp_path: Path) -> None:
    for number, name in enumerate(("$HOME: my model.ckpt", "a b/größe 😀.pth.tar", "${x}.bin")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save({"model": wrapped(), "epoch": 3}, tmp_path / name)
        (tmp_path / f"specs{number}").mkdir()
        spec = f"specs{number}/a.yaml"
        outcome = cli("new", NET, "-o", spec, "--input", "3,16,16", "--weights", name, "--trust")
        assert outcome.status == 0, outcome.err
        outcome = cli("check", spec, "--trust")
        assert outcome.status == 0, outcome.err
        network = pcg.build(tmp_path / spec, trust=True)
        assert network.drive is not None
        assert torch.equal(network.drive.model.state_dict()["0.weight"], wrapped()["module.0.weight"])


def test_several_weights_are_a_fault_that_says_what_to_write(cli: Cli, small: Path, tmp_path: Path) -> None:
    torch.save({"model": wrapped(1), "ema": wrapped(2)}, tmp_path / "w.pth")
    with_weights(small, "w.pth")
    outcome = cli("check", "small.yaml", "--trust")
    assert outcome.status == 2
    assert "'model.module', 'ema.module'" in outcome.err
    with_weights(small, {"file": "w.pth", "part": "ema"})
    assert cli("check", "small.yaml", "--trust").status == 0
    network = pcg.build(small, trust=True)
    assert network.drive is not None
    assert torch.equal(network.drive.model.state_dict()["0.weight"], wrapped(2)["module.0.weight"])


def test_a_trained_backbone_is_loaded_into_a_given_model(
    cli: Cli, small: Path, pictures: str, tmp_path: Path
) -> None:
    spec = yaml.safe_load(small.read_text())
    loss = {"classification": 0, "reconstruction": 1}
    spec["train"] = {"task": "through_time", "loss": loss, "epochs": 1, "batch": 4, "learns": ["backbone"]}
    small.write_text(yaml.safe_dump(spec))
    outcome = cli(
        "train",
        "small.yaml",
        "--data",
        pictures,
        "--trust",
        "--tracker",
        "none",
        "--out",
        "out",
        "--lr",
        "0.01",
    )
    assert outcome.status == 0, outcome.err
    model: nn.Module = chain().eval()
    given = pcg.build(tmp_path / "out" / "spec.yaml", model=model)
    named = pcg.build(tmp_path / "out" / "spec.yaml", trust=True)
    assert given.drive is not None
    assert named.drive is not None
    trained = named.drive.model.state_dict()
    for name, value in given.drive.model.state_dict().items():
        assert torch.equal(value, trained[name])
    assert not torch.equal(trained["0.weight"], model.state_dict()["0.weight"])
