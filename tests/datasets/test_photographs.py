"""Crops of photographs: none is in both parts, and those for tests never change."""

from __future__ import annotations

import pytest
import torch

from pcgraph.datasets import open_data, photographs
from pcgraph.datasets.photographs import TRAIN, Photographs
from pcgraph.errors import InputError
from pcgraph.files.shipped import photos
from tests.datasets.conftest import Writer

SHAPE = (3, 32, 32)


def test_photographs_of_the_parts_differ() -> None:
    train, test = (open_data("photos", split, shape=SHAPE) for split in ("train", "test"))  # type: ignore[arg-type]
    assert not train.labelled
    assert not test.labelled
    assert isinstance(train.source, Photographs)
    assert isinstance(test.source, Photographs)
    assert sorted(path.name for path in train.source.paths) == sorted(TRAIN)
    assert [path.stem for path in test.source.paths] == photos() == ["chelsea", "coffee", "rocket"]
    assert not {path.stem for path in train.source.paths} & set(photos())
    assert (len(train), len(test)) == (64 * len(TRAIN), 32 * 3)
    assert train[0].label == -1


def test_crops_change_in_training_only() -> None:
    train, test = (open_data("photos", split, shape=SHAPE) for split in ("train", "test"))  # type: ignore[arg-type]
    first = train.item(4, 1, 1).image
    assert first.shape == SHAPE
    assert torch.equal(first, train.item(4, 1, 1).image)
    for other in [train.item(4, 1, 2), train.item(4, 2, 1), train.item(4 + len(TRAIN), 1, 1)]:
        assert not torch.equal(first, other.image)
    assert torch.equal(test.item(4, 1, 1).image, test.item(4, 2, 3).image)
    assert not torch.equal(test[4].image, test[7].image)  # another crop of the same photograph


def test_a_folder_of_photographs_is_added_to_those_for_training(
    write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("mine/deep/1.png", 7)
    data = open_data(f"photos:{path.parent.parent}", "train", shape=SHAPE)
    assert len(data) == 64 * (len(TRAIN) + 1)
    assert torch.allclose(data[len(TRAIN)].image, torch.full(SHAPE, 7 / 255))

    monkeypatch.setattr(photographs, "_SCIKIT_IMAGE", None)
    assert len(open_data(f"photos:{path.parent.parent}", "train", shape=SHAPE)) == 64
    assert len(open_data("photos", "test", shape=SHAPE)) == 96
    with pytest.raises(InputError, match=r"pip install 'pcgraph\[data\]'"):
        open_data("photos", "train", shape=SHAPE)
