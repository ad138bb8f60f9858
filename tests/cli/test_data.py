"""Images of data sets have one name in all commands; a part of the data to train on; a baseline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pcgraph.datasets import open_data
from pcgraph.datasets.parts import Split
from pcgraph.datasets.shipped import digit_arrays
from pcgraph.errors import InputError

from .conftest import Cli

CLASSIFIER = """\
name: plain
backbone: {model: "pcgraph:digits_cnn", input: [1, 28, 28]}
nodes: {e1: relu1, e2: relu2}
feedback: none
train: {task: through_time, steps: 0, epochs: 1, batch: 16}
schedule: {order: sweep, steps: 1}
"""


@pytest.mark.parametrize(
    ("reference", "split", "places"),
    [
        ("digits:test:0-3", "test", [0, 1, 2, 3]),
        ("digits:train:7", "train", [7]),
        ("digits:test:5,2,8-9", "test", [5, 2, 8, 9]),
    ],
)
def test_items_are_those_of_the_part(reference: str, split: Split, places: list[int]) -> None:
    whole = digit_arrays(split)
    asked: Split
    for asked in ("train", "test"):
        data = open_data(reference, asked, shape=(1, 28, 28))
        assert data.name == reference
        assert [data.label(index) for index in range(len(data))] == [whole.labels[place] for place in places]
        own = torch.stack([data.item(index).image for index in range(len(data))])
        assert torch.equal(own[:, 0], torch.from_numpy(whole.values[places]) / 255)


def test_a_part_as_a_whole(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(open_data("digits:test", "train", shape=(1, 28, 28))) == len(digit_arrays("test"))
    data = open_data(f"{pictures}:test:0-2", "train", shape=(3, 16, 16))
    assert [data.label(index) for index in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("digits:test:99999", "there are 1000 images, 0 to 999"),
        ("digits:test:9-0", "runs backwards"),
        ("digits:valid:0", "Write 'digits' alone"),
        ("didgits:test:0", "Did you mean 'digits'"),
    ],
)
def test_no_such_items(reference: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_data(reference, "test", shape=(1, 28, 28))


def test_a_folder_may_be_called_like_a_part(
    tmp_path: Path, pictures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").rename(tmp_path / "odd:test:0")
    assert len(open_data("folder:odd:test:0", "train", shape=(3, 16, 16))) == 10


@pytest.mark.heavy
def test_run_and_evaluate_take_them(cli: Cli, tmp_path: Path) -> None:
    run = cli("run", "digits", "digits:test:3,5", "--steps", 1, "--out", "r", "--json")
    assert run.status == 0, run.err
    assert [one["name"] for one in run.json["images"]] == ["digits:test:3", "digits:test:5"]
    evaluated = cli("evaluate", "digits", "--data", "digits:test:0-9", "--steps", 1, "--out", "e", "--json")
    assert evaluated.status == 0, evaluated.err
    record = json.loads((tmp_path / "e" / "run.json").read_text())
    assert record["images"] == 10
    assert record["settings"]["data"] == "digits:test:0-9"
    mixed = cli("run", "digits", "digits:test:3", "photos", "--out", "m")
    assert mixed.status == 2
    assert "stand alone" in mixed.err


def test_train_on_a_part(cli: Cli, tmp_path: Path) -> None:
    """The part is drawn from the seed; so is what is held out of it."""
    (tmp_path / "plain.yaml").write_text(CLASSIFIER)
    done = cli("train", "plain.yaml", "--data", "digits", "--limit", 40, "--out", "t", "--json")
    assert done.status == 0, done.err
    record = json.loads((tmp_path / "t" / "run.json").read_text())
    assert (record["images"], record["held_out"]) == (36, 4)


def test_a_baseline_without_feedback(cli: Cli, tmp_path: Path) -> None:
    """The task `feedback` has nothing to learn, and says what there is; through time the backbone learns."""
    (tmp_path / "plain.yaml").write_text(CLASSIFIER)
    (tmp_path / "none.yaml").write_text(CLASSIFIER.replace("task: through_time, steps: 0, ", ""))
    refused = cli("train", "none.yaml", "--data", "digits:train:0-63", "--out", "n")
    assert refused.status == 2
    assert "the network has no feedback that could learn" in refused.err
    assert "task: through_time" in refused.err
    done = cli("train", "plain.yaml", "--data", "digits:train:0-63", "--out", "t", "--json")
    assert done.status == 0, done.err
    learned = [load_file(file) for file in (tmp_path / "t").glob("*.safetensors")]
    assert any(weights for weights in learned)
    again = cli("run", "t/spec.yaml", "digits:test:0", "--out", "r")
    assert again.status == 0, again.err


def test_all_images_are_broken(cli: Cli, small: Path, pictures: str, tmp_path: Path) -> None:
    for file in (tmp_path / "pictures").rglob("*.png"):
        file.write_bytes(b"no image")
    outcome = cli(
        *(
            "evaluate",
            "small.yaml",
            "--trust",
            "--data",
            pictures,
            "--skip-broken",
            "--steps",
            1,
            "--out",
            "e",
        )
    )
    assert outcome.status == 2
    assert "not one image can be read" in outcome.err
