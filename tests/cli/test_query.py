"""``pcgraph query``: values on the command line, the answers, the run folder, and every wrong clamp."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import pcgraph as pcg
from pcgraph.datasets import digits
from tests.cli.conftest import Cli

SPEC = """\
name: tiny
nodes: {image: {shape: [1, 28, 28]}, hidden: {shape: [6]}, label: {shape: [10]}}
edges:
  - {source: image, target: hidden, predictor: [Flatten, Linear, Tanh]}
  - {source: hidden, target: label, predictor: [Linear], energy: categorical}
feedback: [{source: label, target: image, predictor: [Linear, Unflatten]}]
dynamics: {rule: energy, rate: 0.1, nodes: {label: {rate: 0}}}
schedule: {steps: 3}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


def test_classify(cli: Cli, tiny: Path) -> None:
    outcome = cli(
        "query", tiny, "--clamp", "image=digits:test:0-2,7", "--free", "label", "--out", "r", "--json"
    )
    assert outcome.status == 0, outcome.err
    answers = outcome.json["answers"]
    data = digits()
    places = [0, 1, 2, 7]
    assert [one["name"] for one in answers] == [f"digits:test:{place}" for place in places]
    assert [one["classes"]["label"]["right"] for one in answers] == data.test_labels[places].tolist()
    network = pcg.build(tiny)
    scores = pcg.query(network, {"image": data.test_images[places]}, free=["label"])["label"]
    assert [one["classes"]["label"]["label"] for one in answers] == scores.argmax(dim=1).tolist()
    record = json.loads(Path("r/run.json").read_text())
    assert (record["kind"], record["read"], record["steps"]) == ("query", ["label"], 3)
    assert {path.name for path in Path("r").iterdir()} == {
        *("spec.yaml", "run.json", "metrics.csv", "tensors.safetensors", "answers.png", "answers.svg"),
        "report.html",
    }
    tensors = load_file("r/tensors.safetensors")
    torch.testing.assert_close(tensors["read:label"], scores)
    assert torch.equal(tensors["given:image"], data.test_images[places])


def test_complete_half_an_image(cli: Cli, tiny: Path) -> None:
    outcome = cli(
        "query", tiny, "--clamp", "image=digits:train:5", "--mask", "image=upper", "--out", "r", "--json"
    )
    assert outcome.status == 0, outcome.err
    tensors, image = load_file("r/tensors.safetensors"), digits().train_images[5]
    assert torch.equal(tensors["read:image"][0, :, :14], image[:, :14])
    assert not torch.equal(tensors["read:image"][0, :, 14:], image[:, 14:])
    (one,) = outcome.json["answers"]
    wanted = (tensors["read:image"][0] - image)[:, 14:].square().mean()
    assert one["error"]["image"]["end"] == pytest.approx(float(wanted))
    assert one["error"]["image"]["start"] == pytest.approx(float(image[:, 14:].square().mean()))


def test_generate_and_denoise(cli: Cli, tiny: Path) -> None:
    made = cli(
        "query", tiny, "--clamp", "label=0-9", "--clamp", "image=random", "--free", "image", "--out", "g"
    )
    assert made.status == 0, made.err
    tensors = load_file("g/tensors.safetensors")
    assert torch.equal(tensors["given:label"], torch.eye(10))
    assert tensors["read:image"].shape == (10, 1, 28, 28)
    clean = cli(
        *("query", tiny, "--clamp", "image=digits:test:0", "--clamp", "label=digits:test:0"),
        *("--noise", "gaussian:0.5", "--soft", "image=1", "--out", "d", "--json"),
    )
    assert clean.status == 0, clean.err
    tensors = load_file("d/tensors.safetensors")
    noise = tensors["given:image"] - digits().test_images[:1]
    assert 0.4 < noise.std() < 0.6
    assert tensors["given:label"].argmax() == digits().test_labels[0]
    assert (
        clean.json["answers"][0]["error"]["image"]["end"]
        < clean.json["answers"][0]["error"]["image"]["start"]
    )


def test_values_from_files(cli: Cli, tiny: Path) -> None:
    picture = np.zeros((40, 40), dtype=np.uint8)
    picture[:, 20:] = 255
    Image.fromarray(picture).save("half.png")
    np.save("images.npy", np.zeros((2, 1, 28, 28), dtype=np.float32))
    save_file({"a": torch.ones(10), "b": torch.eye(10)[:2]}, "labels.safetensors")
    outcome = cli(
        *("query", tiny, "--clamp", "image=images.npy", "--clamp", "label=labels.safetensors:b"),
        *("--mask", "image=half.png", "--out", "r"),
    )
    assert outcome.status == 0, outcome.err
    tensors = load_file("r/tensors.safetensors")
    assert torch.equal(tensors["given:label"], torch.eye(10)[:2])
    assert tensors["mask:image"][..., 15:].all()
    assert not tensors["mask:image"][..., :13].any()
    outcome = cli("query", tiny, "--clamp", "image=half.png", "--out", "s")
    assert outcome.status == 0, outcome.err
    assert load_file("s/tensors.safetensors")["given:image"].shape == (1, 1, 28, 28)


WRONG: dict[str, tuple[list[str], str]] = {
    "no value": (["image"], "expected NODE=VALUE"),
    "an unknown node": (["imgae=random"], "there is no node 'imgae'.*Did you mean 'image'"),
    "twice": (["label=3", "--clamp", "label=4"], "'label' is given twice"),
    "a class for an image": (["image=3"], "is no vector of classes"),
    "a class that is not there": (["label=10"], "there is no class 10: 'label' has 10 entries"),
    "a range that runs backwards": (["label=9-0"], "expected 0-9"),
    "an item that is not there": (["image=digits:test:1000"], "holds 1000 images, 0 to 999; got 1000"),
    "items that are none": (["image=digits:test:first"], "'first' are no items"),
    "unknown data": (["image=digit:test:0"], "Did you mean 'digits'"),
    "a file that is not there": (["image=photo.png"], "no such file"),
    "an array that is not there": (["image=values.npy"], "no such file"),
    "a broken array": (["image=broken.npy"], "cannot be read"),
    "another shape": (["image=small.npy"], r"has shape \(2, 3\); expected \(1, 28, 28\)"),
    "no finite numbers": (["label=nan.npy"], "not finite"),
    "complex numbers": (["label=complex.npy"], "holds complex numbers"),
    "a mask that is no number": (["image=random", "--mask", "image=maybe.npy"], "holds NaN"),
    "which tensor": (["label=two.safetensors"], "which tensor.*It holds x, y"),
    "an unknown tensor": (["label=two.safetensors:z"], "there is no tensor 'z'"),
    "a photograph for a vector": (["label=photos"], "cannot be a value of shape"),
    "counts that differ": (
        ["label=0-2", "--clamp", "image=digits:test:0-1"],
        "expected as many for each node",
    ),
    "everything held": (
        ["label=0", "--clamp", "image=digits:test:0", "--clamp", "hidden=random"],
        "nothing to read",
    ),
    "an unknown free node": (["label=0", "--free", "imag"], "free: there is no node 'imag'"),
    "a mask of nothing": (["label=0", "--mask", "image=upper"], "'image' is given no value"),
    "half a vector": (["label=0", "--mask", "label=upper"], "has no upper half"),
    "no half": (["image=random", "--mask", "image=uper"], "Did you mean 'upper'"),
    "a mask that does not fit": (["image=random", "--mask", "image=small.npy"], "does not fit"),
    "no precision": (["image=random", "--soft", "image=much"], "expected a number"),
    "a negative precision": (["image=random", "--soft", "image=-1"], "expected a number above 0"),
    "noise on nothing": (["label=0", "--noise", "gaussian:1"], "no image is given"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_clamp_is_refused(cli: Cli, tiny: Path, arguments: list[str], message: str) -> None:
    np.save("small.npy", np.zeros((2, 3), dtype=np.float32))
    np.save("nan.npy", np.full(10, np.nan, dtype=np.float32))
    np.save("complex.npy", np.ones(10, dtype=np.complex64))
    np.save("maybe.npy", np.full((1, 28, 28), np.nan))
    Path("broken.npy").write_bytes(b"no array")
    save_file({"x": torch.zeros(10), "y": torch.zeros(10)}, "two.safetensors")
    outcome = cli("query", tiny, "--clamp", *arguments, "--out", "r")
    assert outcome.status == 2, outcome.out
    assert re.search(message, outcome.err, re.DOTALL), outcome.err
    assert not Path("r").exists()
