"""Damaged weight files: one clear fault, or the right weights; never another error, never other weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.errors import ModelError, PCGraphError
from pcgraph.files.digest import digest
from pcgraph.spec.weights import Checkpoint
from pcgraph.tracing.models import load_model
from tests.examples import examples

pytestmark = pytest.mark.heavy

QUICK = examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 3))


def right() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {n: torch.rand(v.shape, generator=generator) for n, v in model().state_dict().items()}


def write_zip(path: Path) -> None:
    torch.save({"state_dict": right(), "epoch": 3, "optimizer": {"lr": 0.1}}, path)


def write_legacy(path: Path) -> None:
    torch.save(right(), path, _use_new_zipfile_serialization=False)


def write_numpy(path: Path) -> None:
    np.savez(path, **{name: value.numpy() for name, value in right().items()})


def write_small_numpy(path: Path) -> None:
    np.savez_compressed(path, **{name: value.numpy() for name, value in right().items()})


def write_safetensors(path: Path) -> None:
    save_file(right(), path)


WRITERS = {
    "zip.pth": write_zip,
    "legacy.pth": write_legacy,
    "plain.npz": write_numpy,
    "small.npz": write_small_numpy,
    "w.safetensors": write_safetensors,
}
CHECKED = ["zip.pth", "plain.npz", "small.npz"]
"""What has checksums: there no bit of a weight can change unseen."""


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    for name, write in WRITERS.items():
        write(folder / name)
    return {name: (folder / name).read_bytes() for name in WRITERS}


def outcome(load: Callable[[], nn.Module]) -> bool | None:
    """Whether the weights are the right ones; None where the file was refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = load().state_dict()
        except PCGraphError:
            return None
    return all(torch.equal(loaded[name], value) for name, value in right().items())


@pytest.mark.parametrize("name", WRITERS)
@QUICK
@given(data=st.data())
def test_cut_off(tmp_path: Path, contents: dict[str, bytes], name: str, data: st.DataObject) -> None:
    content = contents[name]
    (tmp_path / name).write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert outcome(lambda: load_model(model(), weights=name, folder=tmp_path)) is not False


def damaged(content: bytes, data: st.DataObject, first: int = 0, end: int | None = None) -> bytes:
    """The content with a few bytes changed."""
    changed = bytearray(content)
    places = st.integers(first, (len(content) if end is None else end) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    return bytes(changed)


@pytest.mark.parametrize("name", CHECKED)
@QUICK
@given(data=st.data())
def test_changed_where_there_are_checksums(
    tmp_path: Path, contents: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    (tmp_path / name).write_bytes(damaged(contents[name], data))
    assert outcome(lambda: load_model(model(), weights=name, folder=tmp_path)) is not False


@QUICK
@given(data=st.data())
def test_changed_header_of_safetensors(
    tmp_path: Path, contents: dict[str, bytes], data: st.DataObject
) -> None:
    content = contents["w.safetensors"]
    header = 8 + int.from_bytes(content[:8], "little")
    (tmp_path / "w.safetensors").write_bytes(damaged(content, data, end=header))
    loaded = outcome(lambda: load_model(model(), weights="w.safetensors", folder=tmp_path))
    assert loaded is not False


@pytest.mark.parametrize("name", WRITERS)
@QUICK
@given(data=st.data())
def test_nothing_changes_unseen_with_a_digest(
    tmp_path: Path, contents: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    (tmp_path / name).write_bytes(contents[name])
    meant = Checkpoint(file=name, sha256=digest(tmp_path / name))
    changed = damaged(contents[name], data)
    (tmp_path / name).write_bytes(changed)
    expected = True if changed == contents[name] else None
    assert outcome(lambda: load_model(model(), weights=meant, folder=tmp_path)) is expected


@pytest.mark.parametrize("name", ["legacy.pth", "w.safetensors"])
@QUICK
@given(data=st.data())
def test_changed_where_there_are_none(
    tmp_path: Path, contents: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    """A weight may be another one, which nobody can see without a digest; nothing else may happen."""
    (tmp_path / name).write_bytes(damaged(contents[name], data))
    outcome(lambda: load_model(model(), weights=name, folder=tmp_path))


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80), suffix=st.sampled_from([".pth", ".npz", ".safetensors", ".json"]))
def test_any_bytes(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(ModelError):
        load_model(model(), weights=f"w{suffix}", folder=tmp_path)


SPEC = {
    "name": "a",
    "nodes": {"image": {"shape": [4]}, "hidden": {"shape": [3]}},
    "edges": [{"source": "image", "target": "hidden"}],
}


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_weights_of_predictors(tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "w.safetensors"
    pcg.build(pcg.parse_spec(SPEC), seed=3).save_weights(file)
    weights = {"file": file.name, "sha256": digest(file)}
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    expected = pcg.build(
        pcg.parse_spec({**SPEC, "weights": weights}, folder=tmp_path)
    ).predictors.state_dict()
    file.write_bytes(damaged(content, data, end=header))
    for meant in (weights, file.name):
        try:
            network = pcg.build(pcg.parse_spec({**SPEC, "weights": meant}, folder=tmp_path))
        except PCGraphError:
            continue
        assert all(torch.equal(v, expected[name]) for name, v in network.predictors.state_dict().items())
