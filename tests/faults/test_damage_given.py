"""Files that people give, damaged at random: one fault that says what is wrong, or a file that is whole.

Where the format or the spec has checksums, what is read is what was written, or nothing is. Where neither
has, a damaged file can be another valid one; then it is read, and only pcgraph's own errors ever end it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import pcgraph as pcg
from pcgraph.datasets import open_data
from pcgraph.datasets.tensors import load_tensors
from pcgraph.errors import PCGraphError
from pcgraph.files.digest import digest
from pcgraph.predictors.masks import mask_matrix
from pcgraph.spec.mask import Mask
from pcgraph.spec.weights import Checkpoint
from pcgraph.tracing.models import load_model
from tests.cli.conftest import SMALL
from tests.datasets.test_library import write_mnist
from tests.examples import examples
from tests.goldens.nets import chain

from . import SEEDS
from .test_damage import FEW, damage

MANY = SEEDS or 300
MATRIX = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0]])
ARCS = "0 1\n1 2\n2 0\n0 2\n"
SPEC = SMALL.replace('model: "python:tests.goldens.nets:chain", ', "")


def values(loaded: torch.nn.Module) -> Any:
    """The weights of a model."""
    return {name: tensor.tolist() for name, tensor in loaded.state_dict().items()}


def weights(path: Path) -> Any:
    """The backbone with the weights of a file."""
    return values(load_model(chain(), weights=str(path)))


def digested(path: Path) -> Any:
    """The same, where the spec says which file is meant."""
    expected = (path.parent / f"{path.name}.sha256").read_text()
    checkpoint = Checkpoint(file=str(path), sha256=expected)
    return values(load_model(chain(), weights=checkpoint))


def mask(path: Path) -> Any:
    """The connections that a file leaves."""
    return mask_matrix(Mask(file=path.name), 3, 3, path.parent).tolist()


def spec(path: Path) -> Any:
    """What a spec says, and the network that it means."""
    found = pcg.load_spec(path)
    pcg.build(found, model=chain(), verify=False)
    return found.model_dump(mode="json")


def inputs(path: Path) -> Any:
    """Inputs of a network."""
    return load_tensors(path, (2, 3)).tolist()


def pictures(path: Path) -> Any:
    """The pictures of the folder that a file is in."""
    data = open_data(f"folder:{path.parent}", "test", shape=(3, 8, 8))
    return [data[place].image.tolist() for place in range(len(data))]


def labels(path: Path) -> Any:
    """The labels that a file of ImageNet gives."""
    data = open_data(f"imagenet:{path.parent}", "test", shape=(3, 8, 8))
    return [data.label(place) for place in range(len(data))]


def mnist(path: Path) -> Any:
    """MNIST, of which one file is damaged."""
    data = open_data(f"mnist:{path.parents[2]}", "train", shape=(1, 28, 28))
    return [(data[place].image.tolist(), data[place].label) for place in range(len(data))]


Write = Callable[[Path], Any]
STATE = {
    n: torch.randn(v.shape, generator=torch.Generator().manual_seed(1))
    for n, v in chain().state_dict().items()
}
ARRAYS = {name: tensor.numpy() for name, tensor in STATE.items()}


def write_digested(path: Path) -> None:
    save_file(STATE, path)
    (path.parent / f"{path.name}.sha256").write_text(digest(path))


def write_picture(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(path)


def write_labels(path: Path) -> None:
    for name in ("a", "b", "c"):
        picture = path.parent / "val" / f"{name}.JPEG"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(picture)
    path.write_text("a.JPEG 65\nb.JPEG n01440764\nc.JPEG 999\n")


RAW = "MNIST/raw/train-{}-ubyte"
KINDS: dict[str, tuple[str, Write, Callable[[Path], Any], bool]] = {
    "weights, .pth": ("w.pth", lambda path: torch.save(STATE, path), weights, True),
    "weights, .npz": ("w.npz", lambda path: np.savez(path, **ARRAYS), weights, True),
    "weights, .npz, packed": ("p.npz", lambda path: np.savez_compressed(path, **ARRAYS), weights, True),
    "weights, .safetensors, digest in the spec": ("d.safetensors", write_digested, digested, True),
    "weights, .safetensors": ("w.safetensors", lambda path: save_file(STATE, path), weights, False),
    "weights, old .pth": (
        "old.pth",
        lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
        weights,
        False,
    ),
    "spec, .yaml": ("s.yaml", lambda path: path.write_text(SPEC), spec, False),
    "spec, .json": (
        "s.json",
        lambda path: path.write_text(pcg.parse_spec(SPEC).model_dump_json()),
        spec,
        False,
    ),
    "spec, .toml": (
        "s.toml",
        lambda path: path.write_text('nodes = {e1 = "1", e2 = "3"}\nbackbone = {input = [3, 16, 16]}\n'),
        spec,
        False,
    ),
    "mask, .npy": ("m.npy", lambda path: np.save(path, MATRIX.numpy()), mask, False),
    "mask, .safetensors": ("m.safetensors", lambda path: save_file({"mask": MATRIX}, path), mask, False),
    "mask, .edgelist": ("m.edgelist", lambda path: path.write_text(ARCS), mask, False),
    "mask, .adjlist": ("m.adjlist", lambda path: path.write_text("0 1 2\n1 2\n2 0\n"), mask, False),
    "inputs, .npy": ("i.npy", lambda path: np.save(path, np.ones((4, 2, 3), np.float32)), inputs, False),
    "inputs, .npz": ("i.npz", lambda path: np.savez(path, np.ones((4, 2, 3), np.float32)), inputs, True),
    "inputs, .safetensors": (
        "i.safetensors",
        lambda path: save_file({"x": torch.ones(4, 2, 3)}, path),
        inputs,
        False,
    ),
    "picture, .png": ("1.png", write_picture, pictures, False),
    "picture, .jpg": ("1.jpg", write_picture, pictures, False),
    "picture, .tif": ("1.tif", write_picture, pictures, False),
    "picture, .gif": ("1.gif", write_picture, pictures, False),
    "labels of ImageNet": ("val.txt", write_labels, labels, False),
    "pictures of MNIST": (RAW.format("images-idx3"), lambda path: write_mnist(path.parents[2]), mnist, False),
    "labels of MNIST": (RAW.format("labels-idx1"), lambda path: write_mnist(path.parents[2]), mnist, False),
}
"""What is given, how it is written and read, and whether checksums tell each damage."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("given")


def survives(place: Path, kind: str, seed: int) -> bool:
    """Damage a file and read it; whether it was refused."""
    name, write, read, checked = KINDS[kind]
    path = place / kind.replace(" ", "") / name
    if not path.exists():
        (place / kind.replace(" ", "")).mkdir()
        write(path)
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = read(path) if checked else None
        try:
            path.write_bytes(damage(content, seed))
            found = read(path)
        except PCGraphError:
            return True
        finally:
            path.write_bytes(content)
    assert not checked or found == expected
    return False


@pytest.mark.parametrize("kind", list(KINDS))
@examples(FEW, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_damaged_files(place: Path, kind: str, seed: int) -> None:
    survives(place, kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_many_damaged_files(place: Path, kind: str) -> None:
    refused = sum(survives(place, kind, seed) for seed in range(MANY))
    right = "no wrong result" if KINDS[kind][3] else "the others valid"
    print(f"damaged {kind}: {MANY} tried, {refused} refused, {right}")
