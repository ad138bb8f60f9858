"""A backbone that was trained comes back with its weights: those of the file that the spec means."""

from __future__ import annotations

import copy
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.files.digest import digest
from pcgraph.learning.saving import save_network
from tests.nets import Shared, chain

NODES = {"e1": "1", "e2": "3"}


def spec(model: str | None = None, **backbone: Any) -> dict[str, Any]:
    named = {} if model is None else {"model": model}
    return {
        "name": "n",
        "backbone": {**named, "input": [3, 16, 16], **backbone},
        "nodes": NODES,
        "feedback": "chain",
        "schedule": {"steps": 1},
    }


def moved(network: pcg.PCNetwork) -> nn.Module:
    """The network's backbone after a training has moved it, as a model of its own."""
    assert network.drive is not None
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in network.drive.model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) / 10)
    return copy.deepcopy(network.drive.model)


def output(network: pcg.PCNetwork, image: Tensor) -> Tensor:
    found: Tensor = pcg.Scheduler(network).run(image, steps=0, record=["output"]).output[0]
    return found


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("named", [None, "python:tests.goldens.nets:chain"])
def test_the_trained_weights_are_loaded_into_the_model_that_is_given(
    tmp_path: Path, image: Tensor, named: str | None
) -> None:
    given = chain().eval()
    network = pcg.build(pcg.parse_spec(spec(named)), model=given, trust=True)
    trained = moved(network)
    save_network(network, tmp_path, backbone=True)
    before = copy.deepcopy(given.state_dict())
    again = pcg.build(tmp_path / "spec.yaml", model=given, trust=True)
    with torch.no_grad():
        assert torch.equal(output(again, image), trained(image))
        assert not torch.equal(trained(image), given(image))
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    if named is not None:
        assert torch.equal(output(pcg.build(tmp_path / "spec.yaml", trust=True), image), output(again, image))


def test_a_folder_that_was_moved_still_knows_its_files(tmp_path: Path, image: Tensor) -> None:
    network = pcg.build(pcg.parse_spec(spec()), model=chain())
    trained = moved(network)
    (tmp_path / "old").mkdir()
    save_network(network, tmp_path / "old", backbone=True)
    shutil.move(tmp_path / "old", tmp_path / "$NEW: a b")
    again = pcg.build(tmp_path / "$NEW: a b" / "spec.yaml", model=chain())
    with torch.no_grad():
        assert torch.equal(output(again, image), trained(image))


def test_a_model_that_the_weights_do_not_fit_is_refused(tmp_path: Path) -> None:
    network = pcg.build(pcg.parse_spec(spec()), model=chain())
    save_network(network, tmp_path, backbone=True)
    other = chain()
    other[7] = nn.Linear(16 * 4 * 4, 3)
    with pytest.raises(pcg.ModelError, match="does not fit the model") as caught:
        pcg.build(tmp_path / "spec.yaml", model=other)
    assert caught.value.faults[0].path == ("backbone", "weights")
    assert caught.value.faults[0].where.startswith(str(tmp_path / "spec.yaml"))


@pytest.mark.parametrize("file", ["backbone.safetensors", "weights.safetensors"])
@pytest.mark.parametrize("how", ["rewritten", "zeroed", "longer", "gone"])
def test_another_file_is_refused(tmp_path: Path, file: str, how: str) -> None:
    network = pcg.build(pcg.parse_spec(spec()), model=chain())
    save_network(network, tmp_path, backbone=True)
    path = tmp_path / file
    before = digest(path)
    if how == "rewritten":
        save_file({name: value + 1e-3 for name, value in load_file(path).items()}, path)
    elif how == "zeroed":
        content = path.read_bytes()
        path.write_bytes(content[:-64] + bytes(64))
    elif how == "longer":
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        path.unlink()
    with pytest.raises(pcg.ModelError) as caught:
        pcg.build(tmp_path / "spec.yaml", model=chain())
    (fault,) = caught.value.faults
    assert fault.path == (("backbone", "weights") if file.startswith("backbone") else ("weights",))
    assert fault.where.startswith(f"{tmp_path / 'spec.yaml'}:")
    assert fault.hint or how == "gone"
    if how == "gone":
        assert "there is no weight file" in fault.message
    else:
        assert f"expected the SHA-256 {before}, found {digest(path)}" in fault.message


def test_a_file_of_the_user_is_loaded_into_the_given_model_too(tmp_path: Path, image: Tensor) -> None:
    """Whoever trained it, a file is the spec's word; a library's name says nothing of another model."""
    source = chain().eval()
    torch.save(
        {"state_dict": {f"module.{n}": v for n, v in source.state_dict().items()}}, tmp_path / "w.ckpt"
    )
    with pytest.warns(pcg.PCGraphWarning, match="'module.' taken off"):
        network = pcg.build(pcg.parse_spec(spec(weights="w.ckpt"), folder=tmp_path), model=chain())
    with torch.no_grad():
        assert torch.equal(output(network, image), source(image))
    named = spec("torchvision:vgg16", weights="DEFAULT")
    network = pcg.build(pcg.parse_spec(named, folder=tmp_path), model=source)
    with torch.no_grad():
        assert torch.equal(output(network, image), source(image))


def test_what_only_the_feedback_learned_leaves_the_given_model(tmp_path: Path, image: Tensor) -> None:
    given = chain().eval()
    save_network(pcg.build(pcg.parse_spec(spec()), model=given), tmp_path)
    assert not (tmp_path / "backbone.safetensors").exists()
    with torch.no_grad():
        again = pcg.build(tmp_path / "spec.yaml", model=given)
        assert torch.equal(output(again, image), given(image))
    assert again.feedback_trained


def test_run_folders_name_the_files_of_the_user_with_their_digests(tmp_path: Path) -> None:
    """The spec of the second training still knows the backbone of the first."""
    network = pcg.build(pcg.parse_spec(spec()), model=chain())
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    save_network(network, tmp_path / "first", backbone=True)
    save_network(pcg.build(tmp_path / "first" / "spec.yaml", model=chain()), tmp_path / "second")
    written = yaml.safe_load((tmp_path / "second" / "spec.yaml").read_text())
    first = tmp_path / "first" / "backbone.safetensors"
    assert written["backbone"]["weights"] == {"file": str(first.resolve()), "sha256": digest(first)}
    second = tmp_path / "second" / "weights.safetensors"
    assert written["weights"] == {"file": "weights.safetensors", "sha256": digest(second)}

    torch.save(chain().state_dict(), tmp_path / "own.pth")
    plain = pcg.parse_spec(spec(weights="own.pth"), folder=tmp_path)
    (tmp_path / "third").mkdir()
    save_network(pcg.build(plain, model=chain()), tmp_path / "third")
    written = yaml.safe_load((tmp_path / "third" / "spec.yaml").read_text())
    own = (tmp_path / "own.pth").resolve()
    assert written["backbone"]["weights"] == {"file": str(own), "sha256": digest(own)}


def test_tied_backbones_are_saved(tmp_path: Path) -> None:
    class Twice(Shared):
        def __init__(self) -> None:
            super().__init__()
            self.again = self.conv
            self.other = nn.Conv2d(3, 3, 3, padding=1)
            self.other.weight = self.conv.weight

    given = {"name": "n", "backbone": {"input": [3, 16, 16]}, "nodes": {"e1": "conv"}, "feedback": "to_input"}
    network = pcg.build(pcg.parse_spec(given), model=Twice())
    trained = moved(network).state_dict()
    save_network(network, tmp_path, backbone=True)
    again = pcg.build(tmp_path / "spec.yaml", model=Twice())
    assert again.drive is not None
    assert all(torch.equal(value, trained[name]) for name, value in again.drive.model.state_dict().items())


# ---- whether the feedback is trained --------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path) -> pcg.PCNetwork:
    (tmp_path / "run").mkdir()
    save_network(pcg.build(pcg.parse_spec(spec()), model=chain(), seed=4), tmp_path / "run")
    return pcg.build(tmp_path / "run" / "spec.yaml", model=chain())


def untrained() -> pcg.PCNetwork:
    return pcg.build(pcg.parse_spec(spec()), model=chain())


def test_whether_the_feedback_is_trained_follows_the_weights(trained: pcg.PCNetwork, tmp_path: Path) -> None:
    assert trained.feedback_trained
    network = untrained()
    assert not network.feedback_trained
    network.load_state_dict(trained.state_dict())
    assert network.feedback_trained
    network.load_state_dict(untrained().state_dict())
    assert not network.feedback_trained

    network.predictors.load_state_dict(trained.predictors.state_dict())
    assert network.feedback_trained
    network.predictors.load_state_dict(untrained().predictors.state_dict())
    assert not network.feedback_trained

    torch.save(trained.state_dict(), tmp_path / "state.pth")
    network.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert network.feedback_trained

    save_file({n: v.clone() for n, v in trained.state_dict().items()}, tmp_path / "s.safetensors")
    network = untrained()
    network.load_state_dict(
        load_file(tmp_path / "s.safetensors")
    )  # does not say; nobody saves random weights
    assert network.feedback_trained


def test_it_survives_copies_and_does_not_come_from_a_backbone(trained: pcg.PCNetwork, tmp_path: Path) -> None:
    assert copy.deepcopy(trained).feedback_trained
    assert not copy.deepcopy(untrained()).feedback_trained
    assert trained.double().feedback_trained
    network = untrained()
    assert network.drive is not None
    backbone = {name: v for name, v in trained.state_dict().items() if not name.startswith("predictors.")}
    network.load_state_dict(backbone, strict=False)
    assert not network.feedback_trained
    torch.save(trained, tmp_path / "whole.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.load(tmp_path / "whole.pt", weights_only=False).feedback_trained
