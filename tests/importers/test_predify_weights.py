"""Checkpoints of the published package, as its users have them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pcgraph.errors import ModelError
from pcgraph.importers.predify_weights import find_checkpoints, read_checkpoint


def touch(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).touch()
    return str(folder / "*.pth")


@pytest.mark.parametrize(
    "names",
    [
        ["pc1.pth", "pc2.pth", "pc3.pth"],
        ["pnet_pretrained_pc1_020.pth", "pnet_pretrained_pc2_005.pth", "pnet_pretrained_pc3_010.pth"],
        ["vgg16_pcoder1.pth", "vgg16_pcoder2.pth", "vgg16_pcoder3.pth"],
        ["net_PC_1.pth", "net_PC_2.pth", "net_PC_3.pth"],
        ["1.pth", "2.pth", "3.pth"],
    ],
)
def test_files_are_matched_by_the_node_number(tmp_path: Path, names: list[str]) -> None:
    pattern = touch(tmp_path, *reversed(names))
    assert [path.name for path in find_checkpoints(pattern, 3)] == names


def test_two_digits_are_numbers_and_not_text(tmp_path: Path) -> None:
    names = [f"pc{number}.pth" for number in range(1, 12)]
    assert [path.name for path in find_checkpoints(touch(tmp_path, *names), 11)] == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no file matches"),
        (["pc1.pth"], "matches no file of node 2"),
        (["pc1.pth", "pc2.pth", "pc3.pth"], "pc3.pth: is of node 3; there are nodes 1 to 2"),
        (["pc0.pth", "pc1.pth"], "pc0.pth: is of node 0; there are nodes 1 to 2"),
        (["pc1_a.pth", "pc1_b.pth", "pc2.pth"], "node 1 has 2 files: pc1_a.pth, pc1_b.pth"),
        (["first.pth", "pc2.pth"], "first.pth: does not tell which node it is of"),
        (["net_1_2.pth", "pc2.pth"], "net_1_2.pth: does not tell which node it is of"),
    ],
)
def test_what_is_ambiguous_or_missing_is_a_fault(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_checkpoints(touch(tmp_path, *names), 2)
    assert message in str(caught.value)


def test_only_the_predictors_tensors_are_taken(tmp_path: Path) -> None:
    weight = torch.arange(4.0)
    state = {
        "pmodule.0.weight": weight,
        "C_sqrt": torch.tensor(3.0),
        "rep": torch.zeros(2),
        "ffm": torch.zeros(()),
    }
    torch.save({"pcoderweights": state, "optimizer": {"lr": 0.1}, "loss": 3.5}, tmp_path / "pc1.pth")
    found = read_checkpoint(tmp_path / "pc1.pth")
    assert list(found.tensors) == ["0.weight"]
    assert torch.equal(found.tensors["0.weight"], weight)
    assert found.reach == 9


@pytest.mark.parametrize("root", [-1.0, 0.0, float("nan")])
def test_a_root_that_was_never_counted_is_no_reach(tmp_path: Path, root: float) -> None:
    torch.save({"weight": torch.zeros(2), "C_sqrt": torch.tensor(root)}, tmp_path / "pc1.pth")
    found = read_checkpoint(tmp_path / "pc1.pth")
    assert found.reach is None
    assert list(found.tensors) == ["weight"]


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("open('ran', 'w').close()",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "pc1.pth").open("wb") as file:
        pickle.dump({"pcoderweights": Evil()}, file, protocol=2)
    torch.save({"pcoderweights": Evil()}, tmp_path / "pc2.pth")
    for name in ("pc1.pth", "pc2.pth"):
        with pytest.raises(ModelError, match=name):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_other_files_are_faults(tmp_path: Path) -> None:
    (tmp_path / "pc1.pth").write_text("no checkpoint")
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "pc2.pth")
    torch.save([1, 2], tmp_path / "pc3.pth")
    torch.save({"state_dict": {"0.weight": torch.zeros(2)}}, tmp_path / "pc4.pth")
    messages = ("it is text", "but dict of epoch, loss", "but list", "but 'state_dict'")
    for number, message in enumerate(messages, 1):
        with pytest.raises(ModelError) as caught:
            read_checkpoint(tmp_path / f"pc{number}.pth")
        assert f"pc{number}.pth" in str(caught.value)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Tensor.to_sparse, "sparse float32"),
        (lambda tensor: tensor.to("meta"), "without values"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantized"),
        (lambda tensor: torch.complex(tensor, tensor), "complex64"),
        (lambda tensor: torch.nested.nested_tensor([*tensor]), "nested"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of sparse and nested tensors
def test_tensors_that_are_no_plain_numbers(
    tmp_path: Path, change: Callable[[Tensor], Tensor], said: str
) -> None:
    for name in ("pmodule.0.weight", "C_sqrt"):
        state = {"pmodule.0.weight": torch.ones(2, 2), "C_sqrt": torch.ones(1, 1)}
        state[name] = change(state[name])
        torch.save({"pcoderweights": state}, tmp_path / "pc1.pth")
        with pytest.raises(ModelError, match=f"{name}.*{said}"):
            read_checkpoint(tmp_path / "pc1.pth")


def test_what_would_fill_the_memory_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "pc1.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("data.pkl", "data/0", "version"):
            archive.writestr(f"pc1/{name}", bytes(25_000_000))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(ModelError, match=r"pc1.*would become 75 MB, expected at most 64 MB"):
        read_checkpoint(tmp_path / "pc1.pth")


def test_one_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    weight = torch.full((64,), 3.0)
    torch.save({"0.weight": weight}, tmp_path / "pc1.pth")
    content = bytearray((tmp_path / "pc1.pth").read_bytes())
    content[content.index(weight.numpy().tobytes()) + 2] ^= 1
    (tmp_path / "pc1.pth").write_bytes(content)
    with pytest.raises(ModelError, match="is damaged: the checksum"):
        read_checkpoint(tmp_path / "pc1.pth")
