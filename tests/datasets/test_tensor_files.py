"""Files of tensors that are no inputs: not dense, or of more bytes than the file says."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pcgraph.datasets.tensors import load_tensors, tensor_data
from pcgraph.errors import InputError

INPUTS = torch.arange(24.0).reshape(2, 3, 4)
KINDS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (lambda t: t.to_sparse(), "sparse"),
    "csr": (lambda t: t.flatten(0, -2).to_sparse_csr() if t.ndim > 1 else t[None].to_sparse_csr(), "sparse"),
    "meta": (lambda t: t.to("meta"), "without values"),
    "quantized": (lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8), "quantized qint8"),
    "nested": (lambda t: torch.nested.nested_tensor([*t]), "nested"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of sparse and nested tensors
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["alone", "inputs", "classes"])
def test_tensors_that_are_not_dense(tmp_path: Path, kind: str, part: str) -> None:
    change, said = KINDS[kind]
    held: dict[str, Tensor] = {"x": INPUTS, "y": torch.tensor([0, 1])}
    name = "y" if part == "classes" else "x"
    held[name] = change(held[name])
    torch.save(held["x"] if part == "alone" else held, tmp_path / "a.pt")
    for read in (load_tensors, tensor_data):
        with pytest.raises(InputError, match=f"a tensor that is {said}.*, expected a dense one"):
            read(tmp_path / "a.pt", (3, 4))


def zipped(path: Path, names: list[str], megabytes: int) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            with archive.open(name, "w") as record:
                for _ in range(megabytes):
                    record.write(bytes(1_000_000))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PTH"])
def test_a_file_of_torch_that_would_become_huge(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    zipped(path, ["a/data.pkl", "a/data/0", "a/version"], 2)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match=r"would become 6 MB; torch\.save compresses none"):
        load_tensors(path, (3, 4))


def test_arrays_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    zipped(path, ["x.npy"], 3)
    monkeypatch.setattr("pcgraph.datasets.tensors.memory", lambda: 3e6 - 1)
    with pytest.raises(InputError, match="it would become 3 MB, more than this machine's memory"):
        load_tensors(path, (3, 4))


def test_whole_files_are_read(tmp_path: Path) -> None:
    import numpy as np

    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((200, 3, 4)))
    assert load_tensors(tmp_path / "a.npz", (3, 4)).shape == (200, 3, 4)
    for new in (True, False):
        torch.save(INPUTS, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        assert torch.equal(load_tensors(tmp_path / "a.pt", (3, 4)), INPUTS)
