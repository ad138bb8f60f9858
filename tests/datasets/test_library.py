"""MNIST and CIFAR in the files that torchvision reads, made up here; nothing is downloaded unasked."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pcgraph.datasets import open_data
from pcgraph.errors import InputError


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def write_mnist(root: Path) -> np.ndarray:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    for part, count in (("train", 5), ("t10k", 2)):
        write_idx(raw / f"{part}-images-idx3-ubyte", pictures[:count])
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) + 3)
    return pictures


def write_cifar(root: Path, kind: str) -> np.ndarray:
    pictures = np.random.default_rng(1).integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)
    hundred = kind == "cifar100"
    folder = root / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    key = "fine_labels" if hundred else "labels"
    names = ["train", "test"] if hundred else [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    for place, name in enumerate(names):
        content = {"data": pictures[[place]].reshape(1, -1), key: [place]}
        (folder / name).write_bytes(pickle.dumps(content))
    classes = {
        "fine_label_names" if hundred else "label_names": [f"c{n}" for n in range(100 if hundred else 10)]
    }
    (folder / ("meta" if hundred else "batches.meta")).write_bytes(pickle.dumps(classes))
    return pictures


def test_mnist(tmp_path: Path) -> None:
    pictures = write_mnist(tmp_path)
    train = open_data(f"mnist:{tmp_path}", "train", shape=(1, 28, 28))
    test = open_data(f"mnist:{tmp_path}", "test", shape=(1, 28, 28))
    assert (len(train), len(test)) == (5, 2)
    assert torch.equal(train[4].image, torch.from_numpy(pictures[4:5]).float() / 255)
    assert [item.label for item in train] == [3, 4, 5, 6, 7]
    assert train.classes is not None
    assert len(train.classes) == 10


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_cifar(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = write_cifar(tmp_path, kind)
    # torchvision unpickles only files with the published checksums, which these have not
    with pytest.raises(InputError, match=r"is not here\n.*--download"):
        open_data(f"{kind}:{tmp_path}", "train", shape=(3, 32, 32))
    monkeypatch.setattr("torchvision.datasets.cifar.CIFAR10._check_integrity", lambda _: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    train = open_data(f"{kind}:{tmp_path}", "train", shape=(3, 32, 32))
    test = open_data(f"{kind}:{tmp_path}", "test", shape=(3, 32, 32))
    assert (len(train), len(test)) == ((1, 1) if kind == "cifar100" else (5, 1))
    assert torch.equal(train[0].image, torch.from_numpy(pictures[0]).float() / 255)
    assert test[0].label == (1 if kind == "cifar100" else 5)
    assert train.classes is not None
    assert train.classes[:2] == ["c0", "c1"]
    grey = open_data(f"{kind}:{tmp_path}", "train", shape=(1, 16, 16))
    assert grey[0].image.shape == (1, 16, 16)


def test_what_is_missing_is_not_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"pcgraph: MNIST is not here\n.*download=True.*mnist:PATH"):
        open_data("mnist", "train", shape=(1, 28, 28))
    assert not (tmp_path / "pcgraph").exists()


def test_a_broken_file(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="MNIST cannot be read"):
        open_data(f"mnist:{tmp_path}", "train", shape=(1, 28, 28))
