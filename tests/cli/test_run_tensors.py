"""`pcgraph run` on inputs that are no pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import pcgraph as pcg

from .conftest import Cli

SPEC = """\
name: sounds
nodes: {wave: {shape: [1, 12]}, heard: {shape: [3, 6]}, label: {shape: [4]}}
edges:
  - {source: wave, target: heard, predictor: [{Conv1d: {kernel_size: 2, stride: 2}}]}
  - {source: heard, target: label, predictor: [Flatten, Linear]}
dynamics: {rule: energy, rate: 0.1}
schedule: {steps: 2}
"""


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    path = tmp_path / "sounds.yaml"
    path.write_text(SPEC)
    return path


def test_tensors_are_run_as_they_are(cli: Cli, sounds: Path, tmp_path: Path) -> None:
    values = torch.randn(3, 1, 12, dtype=torch.float64)
    np.save(tmp_path / "three.npy", values.numpy())
    np.savez(tmp_path / "one.npz", wave=values[0].numpy())
    save_file({"wave": values[1:2].float()}, tmp_path / "second.safetensors")
    files = ["three.npy", "one.npz", "second.safetensors"]
    outcome = cli("run", sounds, *files, "--batch", 2, "--out", "out", "--record", "values:wave", "--json")
    assert outcome.status == 0, outcome.err
    names = [one["name"] for one in outcome.json["images"]]
    assert names == ["three.npy[0]", "three.npy[1]", "three.npy[2]", "one.npz", "second.safetensors"]
    given = values.float()[[0, 1, 2, 0, 1]]
    run = pcg.Scheduler(pcg.build(sounds)).run(given, record=["energy"])
    expected = [run.energy["wave->heard"][step].mean().item() for step in range(3)]
    assert outcome.json["energy"]["wave->heard"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x.npy", np.zeros((1, 13), np.float32), "it holds shape (1, 13), the network's input has (1, 12)"),
        ("x.npy", np.zeros((0, 1, 12), np.float32), "it holds shape (0, 1, 12)"),
        ("x.npy", np.zeros((12,), np.float32), "it holds shape (12,)"),
        ("x.npy", np.zeros((1, 12), np.uint8), "it holds uint8, expected floating-point numbers"),
        ("x.npy", np.full((1, 12), np.nan), "it holds numbers that are not finite"),
        ("x.npy", np.array([object()] * 12).reshape(1, 12), "no file of tensors that can be read"),
        ("x.npz", {"a": np.zeros((1, 12)), "b": np.zeros((1, 12))}, "it holds 2 tensors, expected one"),
        ("x.safetensors", b"nonsense", "no file of tensors that can be read"),
    ],
)
def test_other_files_are_refused(cli: Cli, sounds: Path, name: str, array: object, message: str) -> None:
    path = sounds.with_name(name)
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif isinstance(array, dict):
        np.savez(path, **array)
    else:
        np.save(path, array)  # type: ignore[arg-type]
    outcome = cli("run", sounds, name, "--json")
    assert outcome.status == 2
    assert message in outcome.faults[0]["message"]
    assert outcome.faults[0]["where"] == name


@pytest.mark.parametrize("more", [["random"], ["photos"], ["--noise", "gaussian:1"]])
def test_tensors_stand_alone(cli: Cli, sounds: Path, more: list[str]) -> None:
    np.save(sounds.with_name("x.npy"), np.zeros((1, 12), np.float32))
    outcome = cli("run", sounds, "x.npy", *more, "--json")
    assert outcome.status == 2
    assert "files of tensors stand alone" in outcome.faults[0]["message"]
