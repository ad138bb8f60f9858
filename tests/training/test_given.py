"""Images that a program hands over train the same weights as the data path of the commands, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from pcgraph.datasets import Batch, ImageData, batches, digits, given_images
from pcgraph.errors import InputError
from pcgraph.learning import Feedback, ThroughTime
from pcgraph.network import PCNetwork
from pcgraph.spec import Train
from pcgraph.training import Fitted, fit

from .nets import images, network, settings, weights

COUNT = 28  # three batches of 8, and 4 images that are left out


@cache
def data() -> ImageData:
    return images(network(), COUNT)


@cache
def tensors() -> tuple[Tensor, Tensor]:
    items = [data().item(index) for index in range(COUNT)]
    return torch.stack([item.image for item in items]), torch.tensor([item.label for item in items])


class Pairs(Dataset[Any]):
    """Written by somebody who has never heard of us: classes of numpy, and more than two things a sample."""

    def __init__(self) -> None:
        self.images, self.labels = tensors()

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> list[Any]:
        return [self.images[index], np.int64(self.labels[index]), f"image {index}"]


class InOurOrder:
    """A sampler of batches with the order that the engine draws."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.epoch = seed, -1

    def __len__(self) -> int:
        return COUNT // 8

    def __iter__(self) -> Iterator[list[int]]:
        self.epoch += 1
        for batch in batches(data(), 8, seed=self.seed, epoch=self.epoch, shuffle=True, drop_last=True):
            yield batch.indices.tolist()


def trained(
    folder: Path,
    given: Any,
    task: Callable[..., Any] = ThroughTime,
    fields: Train | None = None,
    **options: Any,
) -> tuple[PCNetwork, Fitted]:
    net, fields = network(), settings() if fields is None else fields
    made = task(net) if task is Feedback else task(net, fields)
    return net, fit(made, given, fields, folder, device="cpu", trackers=[], progress=False, **options)


@pytest.mark.parametrize(
    "make",
    [
        tensors,
        lambda: TensorDataset(*tensors()),
        lambda: Subset(TensorDataset(*tensors()), range(COUNT)),
        Pairs,
        lambda: DataLoader(TensorDataset(*tensors()), batch_sampler=InOurOrder()),
        lambda: DataLoader(data(), batch_sampler=InOurOrder(), collate_fn=joined),
    ],
    ids=["tensors", "dataset", "subset", "own", "loader", "loader-of-ours"],
)
def test_the_weights_are_those_of_the_data_path_that_it_stands_for(tmp_path: Path, make: Any) -> None:
    """Classes count: the loss is the cross-entropy."""
    expected, _ = trained(tmp_path / "a", data())
    found, fitted = trained(tmp_path / "b", make())
    assert fitted.step == 6
    assert torch.equal(weights(found), weights(expected))
    assert not torch.equal(weights(found), weights(network()))
    assert (tmp_path / "a" / "losses.csv").read_bytes() == (tmp_path / "b" / "losses.csv").read_bytes()


def joined(items: list[Any]) -> Batch:
    parts = ([item.image for item in items], [item.label for item in items], [item.index for item in items])
    return Batch(torch.stack(parts[0]), torch.tensor(parts[1]), torch.tensor(parts[2]))


def test_images_without_classes_and_a_path_as_text(tmp_path: Path) -> None:
    expected, _ = trained(tmp_path / "a", data(), Feedback)
    net = network()
    fit(Feedback(net), tensors()[0], settings(), str(tmp_path / "b"), device="cpu", trackers=[])
    assert torch.equal(weights(net), weights(expected))
    assert (tmp_path / "b" / "spec.yaml").is_file()


def test_a_loader_in_the_loop_that_anybody_would_write(tmp_path: Path) -> None:
    """Its own order, its own batches, the last of them smaller, each the mean of its images."""
    pixels, labels = tensors()
    loader = DataLoader(TensorDataset(pixels, labels), batch_size=12)
    fields = Train.model_validate(
        {"epochs": 2, "steps": 0, "learns": ["backbone"], "optimizer": {"name": "SGD", "lr": 0.5}}
    )
    found, fitted = trained(tmp_path, loader, fields=fields)
    assert fitted.step == 2 * 3
    model = network().drive.model
    model.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        for start in range(0, COUNT, 12):
            optimizer.zero_grad()
            scores = model(pixels[start : start + 12])
            torch.nn.functional.cross_entropy(scores, labels[start : start + 12]).backward()
            optimizer.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found.drive.model.get_parameter(name), weight, atol=1e-6, rtol=1e-5)


class Drawn(Dataset[Any]):
    """Every sample is drawn anew."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(1, 12, 12), index % 10


@pytest.mark.heavy
@pytest.mark.parametrize(
    "make",
    [
        Drawn,
        lambda: DataLoader(Drawn(), batch_size=8, shuffle=True),
        lambda: DataLoader(Drawn(), batch_size=8, sampler=WeightedRandomSampler([1.0] * COUNT, COUNT)),
    ],
    ids=["dataset", "loader", "sampler"],
)
def test_interrupted_it_ends_with_the_same_weights(tmp_path: Path, make: Any) -> None:
    """Whatever the random state outside is, and outside it stays as it was."""
    state = torch.get_rng_state()
    expected, _ = trained(tmp_path / "whole", make())
    assert torch.equal(torch.get_rng_state(), state)
    done: list[int] = []
    options = {"on_step": lambda progress, _: done.append(progress.step), "stop": lambda: len(done) >= 4}
    torch.manual_seed(5)
    _, fitted = trained(tmp_path / "cut", make(), **options)
    assert not fitted.finished
    torch.manual_seed(6)
    found, fitted = trained(tmp_path / "cut", make(), resume=True)
    assert (fitted.finished, fitted.resumed) == (True, 5)
    assert torch.equal(weights(found), weights(expected))
    other, _ = trained(tmp_path / "other", make(), seed=1)
    assert not torch.equal(weights(other), weights(expected))


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_a_loaders_batches(processes: int) -> None:
    loader = DataLoader(TensorDataset(*tensors()), batch_size=8, shuffle=True)
    loaded = given_images(loader, (1, 12, 12))

    def epoch(process: int, processes: int) -> list[Batch]:
        which = {"seed": 3, "epoch": 1, "start": 1}
        return list(loaded.batches(process=process, processes=processes, **which))

    whole = epoch(0, 1)
    parts = [epoch(process, processes) for process in range(processes)]
    assert [len(batch) for batch in whole] == [8, 8, 4]
    for number, batch in enumerate(whole):
        mine = [part[number] for part in parts]
        assert torch.equal(torch.cat([part.images for part in mine]), batch.images)
        assert torch.equal(torch.cat([part.labels for part in mine]), batch.labels)
        assert {part.seed for part in mine} == {batch.seed}
        assert max(map(len, mine)) - min(map(len, mine)) <= 1


def test_held_out_images_of_any_kind(tmp_path: Path) -> None:
    pixels, labels = tensors()
    held = data()
    kinds = [held, (pixels, labels), DataLoader(TensorDataset(pixels, labels), batch_size=8)]
    measured = []
    for number, validation in enumerate(kinds):
        seen: dict[int, Any] = {}
        trained(tmp_path / str(number), data(), validation=validation, on_epoch=seen.__setitem__)
        measured.append(seen)
    assert measured[0] == measured[1] == measured[2]
    assert "accuracy" in measured[0][0]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield torch.zeros(1, 12, 12)


class Dicts(Pairs):
    def __getitem__(self, index: int) -> Any:
        return {"image": self.images[index]}


PIXELS = torch.rand(8, 1, 12, 12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("digits", "data of type str cannot be trained on"),
        (digits(), "data of type Dataset cannot be trained on"),
        ([PIXELS, torch.zeros(8)], "data of type list"),
        (Endless(), "data of type Endless"),
        (DataLoader(Endless(), batch_size=8), "the loader has no length"),
        ((PIXELS, torch.zeros(7).long()), "8 images and 7 labels"),
        ((PIXELS, torch.zeros(8)), "the class is of type Tensor, expected a whole number"),
        (torch.rand(8, 3, 12, 12), r"shape \(3, 12, 12\), and the network takes \(1, 12, 12\)"),
        ((PIXELS * 255).byte(), "expected floating-point numbers, got torch.uint8"),
        (Dicts(), "a dict is neither an image nor"),
        (DataLoader(Dicts(), batch_size=8), "a dict is neither an image nor"),
        (
            DataLoader(TensorDataset(PIXELS, torch.rand(8)), batch_size=8),
            "classes of 8 images as whole numbers",
        ),
        (DataLoader(TensorDataset(PIXELS[..., :9]), batch_size=8), r"takes \(batch, 1, 12, 12\)"),
        (DataLoader(TensorDataset(PIXELS), batch_size=None), "and the network takes"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path: Path, given: Any, message: str) -> None:
    folder = tmp_path / "out"
    with pytest.raises(InputError, match=message):
        trained(folder, given, Feedback)
    assert not (folder / "spec.yaml").exists()


def test_settings_that_contradict_the_data_are_refused(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(PIXELS), batch_size=4)
    with pytest.raises(InputError, match="batches of 8, and the loader makes batches of 4"):
        trained(tmp_path / "a", loader, Feedback)
    with pytest.raises(InputError, match="holds tensors, not pictures"):
        trained(tmp_path / "b", PIXELS, Feedback, settings(augment={"flip": True}))
    own = DataLoader(TensorDataset(PIXELS), batch_size=4, shuffle=True, generator=torch.Generator())
    with pytest.raises(InputError, match="generator of its own"):
        trained(tmp_path / "c", own, Feedback, Train(epochs=1), resume=True)
    trained(tmp_path / "d", own, Feedback, Train(epochs=1))


@pytest.mark.parametrize("inside", ["losses.csv", "notes.txt", "deeper/file"])
def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / "mine"
    (folder / inside).parent.mkdir(parents=True)
    (folder / inside).write_text("dear")
    with pytest.raises(InputError, match="exists already and is not empty"):
        trained(folder, data(), Feedback)
    assert (folder / inside).read_text() == "dear"
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / inside]
    with pytest.raises(InputError, match="is a file"):
        trained(folder / inside, data(), Feedback)
