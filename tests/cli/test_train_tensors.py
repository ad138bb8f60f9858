"""`pcgraph train` on files of tensors: inputs as the network takes them, with classes or without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import pcgraph as pcg
from pcgraph.learning import Feedback
from pcgraph.spec import Train
from pcgraph.training import fit

from .conftest import Cli

NETS = """\
from torch import nn


def sounds():
    return nn.Sequential(
        nn.Conv1d(1, 4, 8, 2), nn.ReLU(), nn.Conv1d(4, 6, 4, 2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3),
    )
"""
SPEC = """\
name: sounds
backbone: {model: "python:tensor_nets:sounds", input: [1, 64]}
nodes: {e1: "1", e2: "3"}
feedback: chain
dynamics: {rule: predify, feedforward: 0.4, feedback: 0.3, error: 0.01}
schedule: {steps: 2}
train: {epochs: 2, batch: 4, validation: 0.25, optimizer: {lr: 0.01}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tensor_nets.py").write_text(NETS)
    (tmp_path / "sounds.yaml").write_text(SPEC)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def inputs(count: int = 16) -> torch.Tensor:
    return torch.randn(count, 1, 64, generator=torch.Generator().manual_seed(1))


def save(path: Path, labels: torch.Tensor | None) -> None:
    """The same in each format."""
    found = {"sound": inputs()} | ({} if labels is None else {"class": labels})
    if path.suffix == ".npy":
        np.save(path, inputs().numpy())
    elif path.suffix == ".npz":
        np.savez(path, **{name: one.numpy() for name, one in found.items()})
    elif path.suffix == ".safetensors":
        save_file(found, path)
    else:
        torch.save(tuple(found.values()) if path.stem == "tuple" else found, path)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "a.npz",
        *(pytest.param(n, marks=pytest.mark.heavy) for n in ("a.npy", "a.safetensors", "a.pt", "tuple.pt")),
    ],
)
def test_feedback_learns_what_the_program_would_learn(cli: Cli, folder: Path, name: str) -> None:
    labels = None if name == "a.npy" else torch.arange(16) % 3
    save(folder / name, labels)
    outcome = cli("train", "sounds.yaml", name, "--trust", "--out", "out", "--json")
    assert outcome.status == 0, outcome.err
    assert [len(epoch["validation"]) for epoch in outcome.json["epochs"]] == [2, 2]
    learned = load_file(folder / "out" / "weights.safetensors")

    network = pcg.build("sounds.yaml", trust=True)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(_split_seed())).tolist()
    held, rest = inputs()[sorted(order[:4])], inputs()[sorted(order[4:])]
    settings = Train.model_validate({"epochs": 2, "batch": 4, "optimizer": {"lr": 0.01}})
    fit(Feedback(network), rest, settings, folder / "ours", validation=held, trackers=[])
    expected = load_file(folder / "ours" / "weights.safetensors")
    assert learned.keys() == expected.keys()
    for key, weights in expected.items():
        assert torch.equal(learned[key], weights)


def _split_seed() -> int:
    """What `split` draws with for seed 0."""
    return int(np.random.SeedSequence((0,)).generate_state(1, np.uint64)[0]) >> 1


@pytest.mark.heavy
@pytest.mark.long
def test_classes_are_learned(cli: Cli, folder: Path) -> None:
    """Sounds of which the mean tells the class: after some epochs nearly all are right."""
    classes = torch.arange(48) % 3
    sounds = 0.1 * torch.randn(48, 1, 64) + (classes.float() - 1).view(-1, 1, 1)
    np.savez(folder / "a.npz", x=sounds.numpy(), y=classes.numpy().astype(np.int32))
    spec = SPEC.replace("train: {", "train: {task: through_time, steps: 0, ").replace(
        "epochs: 2", "epochs: 30"
    )
    (folder / "sounds.yaml").write_text(spec)
    outcome = cli("train", "sounds.yaml", "--data", "a.npz", "--trust", "--out", "out", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["epochs"][-1]["validation"]["accuracy"] > 0.9
    again = cli("train", "sounds.yaml", "--data", "a.npz", "--trust", "--out", "out", "--resume", "--json")
    assert again.status == 0, again.err
    np.savez(folder / "a.npz", x=sounds.numpy()[::-1], y=classes.numpy().astype(np.int32))
    other = cli("train", "sounds.yaml", "--data", "a.npz", "--trust", "--out", "out", "--resume", "--json")
    assert other.status == 2  # not the data that it began with


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": torch.zeros(3, 2, 64)}, "it holds shape (3, 2, 64), the network's input has (1, 64)"),
        (
            {"x": torch.zeros(3, 1, 64), "z": torch.ones(3, 64)},
            "it holds 2 tensors, expected one of inputs",
        ),
        ({"x": torch.zeros(3, 1, 64), "y": torch.zeros(3)}, "it holds 2 tensors, expected one of inputs"),
        ({"x": torch.zeros(3, 1, 64), "y": torch.zeros(2).long()}, "it holds 3 inputs and 2 classes"),
        ({"x": torch.zeros(3, 1, 64), "y": torch.tensor([0, -1, 2])}, "a class is -1, expected 0 or more"),
        (
            {"x": torch.zeros(3, 1, 64).byte(), "y": torch.arange(3)},
            "it holds uint8, expected floating-point",
        ),
        ({"x": torch.full((3, 1, 64), torch.nan)}, "it holds numbers that are not finite"),
        ({"x": torch.zeros(3, 1, 64), "epoch": 3}, "'epoch' is a int, expected a tensor"),
    ],
)
def test_other_files_are_refused(cli: Cli, folder: Path, tensors: object, message: str) -> None:
    torch.save(tensors, folder / "a.pt")
    outcome = cli("train", "sounds.yaml", "a.pt", "--trust", "--json")
    assert outcome.status == 2
    assert message in outcome.faults[0]["message"]
    assert outcome.faults[0]["where"] == "a.pt"


def test_code_in_a_file_is_not_run(cli: Cli, folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (folder / "ran",)

    torch.save({"x": Bomb()}, folder / "a.pt")
    outcome = cli("train", "sounds.yaml", "a.pt", "--trust", "--json")
    assert outcome.status == 2
    assert not (folder / "ran").exists()


def test_data_are_given_once(cli: Cli, folder: Path) -> None:
    np.save(folder / "a.npy", inputs().numpy())
    outcome = cli("train", "sounds.yaml", "a.npy", "--data", "digits", "--trust", "--json")
    assert outcome.status == 2
    assert "data are given twice" in outcome.faults[0]["message"]
    missing = cli("train", "sounds.yaml", "b.npy", "--trust", "--json")
    assert missing.status == 2
    assert "b.npy" in str(missing.faults)


def test_noise_is_tuned_for_pictures(cli: Cli, folder: Path) -> None:
    np.savez(folder / "a.npz", x=inputs().numpy(), y=np.arange(16) % 3)
    outcome = cli("tune", "sounds.yaml", "--data", "a.npz", "--trust", "--json")
    assert outcome.status == 2
    assert "'a.npz' holds tensors, and noise is drawn on pictures" in outcome.faults[0]["message"]


def test_a_file_with_classes_can_be_run(cli: Cli, folder: Path) -> None:
    save(folder / "a.npz", torch.arange(16) % 3)
    outcome = cli("run", "sounds.yaml", "a.npz", "--trust", "--out", "out", "--json")
    assert outcome.status == 0, outcome.err
    assert len(outcome.json["images"]) == 16
