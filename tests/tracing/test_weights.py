"""Weight files as training scripts, libraries and accidents leave them: right weights, or one clear fault."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.errors import Fault, ModelError, PCGraphWarning
from pcgraph.files.digest import digest
from pcgraph.files.weights import weights_digest
from pcgraph.spec.weights import Checkpoint
from pcgraph.tracing.models import load_model


def small() -> nn.Sequential:
    """A convolution, a batch norm and a linear layer."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))


def states(seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 7
        for name, value in small().state_dict().items()
    }


def holds(model: nn.Module, expected: Mapping[str, Tensor]) -> bool:
    """Whether the model has these values, in its own types; the count of batches is nobody's."""
    return all(
        torch.equal(value, expected[name].to(value.dtype))
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    )


def said(call: Callable[[], nn.Module]) -> tuple[nn.Module, list[str]]:
    """What was loaded, and what was said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = call()
    assert all(issubclass(one.category, PCGraphWarning) for one in caught)
    return model, [str(one.message) for one in caught]


def fault(folder: Path, file: str | Checkpoint, model: nn.Module | None = None, match: Any = "name") -> Fault:
    model = small() if model is None else model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_model(model, weights=file, match=match, folder=folder)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    (one,) = caught.value.faults
    assert one.path == ("weights",)
    return one


def prefixed(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in tensors.items()}


# ---- kinds of files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.pth", "a.pt", "a.ckpt", "a.bin", "best.pth.tar", "a.model", "epoch=3-step=9.ckpt"]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save(states(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    model, notes = said(lambda: load_model(small(), weights=name, folder=tmp_path))
    assert holds(model, states())
    assert notes == []


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy(tmp_path: Path, save: Any) -> None:
    arrays = {name: value.numpy() for name, value in states().items()}
    arrays["3.weight"] = np.asfortranarray(arrays["3.weight"]).astype(">f4")
    save(tmp_path / "w.npz", **arrays, made_by=np.array("a script"))
    assert holds(load_model(small(), weights="w.npz", folder=tmp_path), states())


def shards(folder: Path, suffix: str, tensors: Mapping[str, Tensor], index: str) -> None:
    """Two files and their index, as Hugging Face writes them."""
    names = list(tensors)
    placed = {name: f"part-{1 + (place > 2)}-of-2.{suffix}" for place, name in enumerate(names)}
    for file in set(placed.values()):
        held = {name: tensors[name] for name in names if placed[name] == file}
        save_file(held, folder / file) if suffix == "safetensors" else torch.save(held, folder / file)
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 3}, "weight_map": placed}, indent=2))


@pytest.mark.parametrize("suffix", ["safetensors", "bin", "pth"])
def test_sharded_files(tmp_path: Path, suffix: str) -> None:
    index = f"model.{suffix}.index.json"
    shards(tmp_path, suffix, states(), index)
    assert holds(load_model(small(), weights=index, folder=tmp_path), states())
    link = tmp_path / "elsewhere" / index
    link.parent.mkdir()
    whole = Checkpoint(file=index, sha256=weights_digest(tmp_path / index))
    load_model(small(), weights=whole, folder=tmp_path)
    shards(tmp_path, suffix, states(2), index)  # the index is the same, the shards are not
    assert "is another file than the spec means" in fault(tmp_path, whole).message


def test_indices_that_lead_nowhere(tmp_path: Path) -> None:
    shards(tmp_path, "safetensors", states(), "a.index.json")
    text = (tmp_path / "a.index.json").read_text()
    (tmp_path / "gone.index.json").write_text(text.replace("part-2-", "part-3-"))
    (tmp_path / "out.index.json").write_text(text.replace("part-2-", "../part-2-"))
    (tmp_path / "more.index.json").write_text(text.replace('"3.bias"', '"3.bais"'))
    (tmp_path / "config.json").write_text('{"weight": 3}')
    (tmp_path / "cut.index.json").write_text(text[:40])
    (tmp_path / "self.index.json").write_text('{"weight_map": {"0.weight": "self.index.json"}}')
    assert "it is text" in fault(tmp_path, "self.index.json").message
    assert "names the file 'part-3-of-2.safetensors', which is" in fault(tmp_path, "gone.index.json").message
    assert "expected the name of a file beside it" in fault(tmp_path, "out.index.json").message
    assert "places the tensor '3.bais' in 'part-2-of-2" in fault(tmp_path, "more.index.json").message
    assert "expected an index with a 'weight_map'" in fault(tmp_path, "config.json").message
    assert "cannot be read as an index" in fault(tmp_path, "cut.index.json").message


def test_safetensors_is_known_whatever_its_header_begins_with(tmp_path: Path) -> None:
    """The length of the header is the file's first byte: it may look like a zip archive, a pickle or JSON."""
    for first in (0x80, 0x20, ord("P")):
        for padding in range(0, 60_000, 8):
            tensors = json.dumps(
                {"__metadata__": {"note": "n" * padding}, "0.weight": _entry(0), "0.bias": _entry(1)}
            )
            if (len(tensors) + 7) // 8 * 8 % 256 == first:
                break
        header = tensors.ljust((len(tensors) + 7) // 8 * 8).encode()
        content = len(header).to_bytes(8, "little") + header + np.float32([2, 3]).tobytes()
        assert content[0] == first
        (tmp_path / "w.bin").write_bytes(content)
        model = load_model(nn.Sequential(nn.Linear(1, 1)), weights="w.bin", folder=tmp_path)
        assert [float(value) for value in model.parameters()] == [2, 3]


def _entry(place: int) -> dict[str, Any]:
    shape = [1] if place else [1, 1]
    return {"dtype": "F32", "shape": shape, "data_offsets": [4 * place, 4 * place + 4]}


# ---- where in a file ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        ("state_dict",),
        ("model",),
        ("model_state",),
        ("model_state_dict",),
        ("net",),
        ("network",),
        ("weights",),
        ("ema",),
        ("state_dict_ema",),
        ("checkpoint", "model"),
    ],
)
def test_weights_under_keys(tmp_path: Path, keys: tuple[str, ...]) -> None:
    held: Any = states()
    for key in reversed(keys):
        held = {key: held, "epoch": 3, "best": torch.tensor(0.5), "args": argparse.Namespace(lr=0.1)}
    held["optimizer"] = {"state": {0: {"exp_avg": torch.zeros(4, 3, 3, 3), "step": torch.tensor(1.0)}}}
    held["accuracy"] = np.float64(0.7)
    torch.save(held, tmp_path / "w.pth")
    assert holds(said(lambda: load_model(small(), weights="w.pth", folder=tmp_path))[0], states())


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "model.",
        "backbone.",
        "net.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.backbone.",
        "encoder.",
    ],
)
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_a_prefix_is_taken_off_and_that_is_said(tmp_path: Path, prefix: str, key: str | None) -> None:
    tensors = prefixed(prefix, states())
    torch.save({key: tensors, "epoch": 1} if key else tensors, tmp_path / "w.ckpt")
    model, notes = said(lambda: load_model(small(), weights="w.ckpt", folder=tmp_path))
    assert holds(model, states())
    assert len(notes) == 1
    assert f"'{prefix}' taken off" in notes[0]
    assert "\n" not in notes[0]


def test_a_prefix_that_the_model_has_too_stays(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("module", small())
    torch.save(prefixed("module.", states()), tmp_path / "w.pth")
    loaded, notes = said(lambda: load_model(model, weights="w.pth", folder=tmp_path))
    assert holds(loaded.module, states())
    assert notes == []


def test_names_that_fit_under_no_prefix(tmp_path: Path) -> None:
    tensors = prefixed("module.", states())
    tensors["module.3.wieght"] = tensors.pop("module.3.weight")
    torch.save({"state_dict": tensors}, tmp_path / "w.pth")
    one = fault(tmp_path, "w.pth")
    assert "under 'state_dict.module', does not fit" in one.message
    assert "1 missing in the file (3.weight); 1 not in the model (3.wieght)" in one.message


CHOICES: list[tuple[dict[str, Any], list[str]]] = [
    ({"model": states(1), "ema": states(2)}, ["model", "ema"]),
    (
        {"state_dict": prefixed("module.", states(1)), "state_dict_ema": prefixed("module.", states(2))},
        ["state_dict.module", "state_dict_ema.module"],
    ),
    (
        {"state_dict": {**prefixed("model.", states(1)), **prefixed("ema_model.", states(2))}},
        ["state_dict.model", "state_dict.ema_model"],
    ),
    ({**prefixed("student.", states(1)), **prefixed("teacher.", states(2))}, ["student", "teacher"]),
    ({"student": {"net": states(1)}, "teacher": {"net": states(2)}}, ["student.net", "teacher.net"]),
]


@pytest.mark.parametrize(("held", "labels"), CHOICES, ids=[labels[1] for _, labels in CHOICES])
def test_of_several_none_is_guessed(tmp_path: Path, held: dict[str, Any], labels: list[str]) -> None:
    torch.save(held, tmp_path / "w.pth")
    one = fault(tmp_path, "w.pth")
    assert one.message.endswith(f"holds several weights that fit the model: '{labels[0]}', '{labels[1]}'")
    assert f"'weights: {{file: w.pth, part: '{labels[1]}'}}'" in one.hint
    for seed, label in enumerate(labels, 1):
        for part in (
            label,
            label.partition(".")[0] if labels[0].partition(".")[0] not in labels[1] else label,
        ):
            chosen = Checkpoint(file="w.pth", part=part)
            assert holds(
                said(lambda w=chosen: load_model(small(), weights=w, folder=tmp_path))[0], states(seed)
            )


def test_weights_at_the_top_level_can_be_meant(tmp_path: Path) -> None:
    torch.save({**states(1), "ema": states(2)}, tmp_path / "w.pth")
    assert fault(tmp_path, "w.pth").message.endswith("that fit the model: the top level (''), 'ema'")
    for seed, part in ((1, ""), (2, "ema")):
        chosen = Checkpoint(file="w.pth", part=part)
        assert holds(load_model(small(), weights=chosen, folder=tmp_path), states(seed))


def test_the_same_weights_twice_are_one(tmp_path: Path) -> None:
    torch.save({"model": states(), "ema": prefixed("module.", states())}, tmp_path / "w.pth")
    assert holds(said(lambda: load_model(small(), weights="w.pth", folder=tmp_path))[0], states())


def test_other_tensors_beside_a_prefix_are_not_left_out_in_silence(tmp_path: Path) -> None:
    tensors = {**prefixed("model.", states()), "criterion.weight": torch.ones(5)}
    torch.save({"state_dict": tensors}, tmp_path / "w.ckpt")
    one = fault(tmp_path, "w.ckpt")
    assert "'state_dict.model', but more stands beside it: criterion.weight" in one.message
    chosen = Checkpoint(file="w.ckpt", part="state_dict.model")
    assert holds(load_model(small(), weights=chosen, folder=tmp_path), states())


def test_averages_of_weights(tmp_path: Path) -> None:
    torch.save(
        torch.optim.swa_utils.AveragedModel(small()).state_dict() | prefixed("module.", states()),
        tmp_path / "w.pth",
    )
    model, notes = said(lambda: load_model(small(), weights="w.pth", folder=tmp_path))
    assert holds(model, states())
    assert "'module.' taken off" in notes[0]


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    torch.save({"model": states(1), "ema": states(2)}, tmp_path / "w.pth")
    one = fault(tmp_path, Checkpoint(file="w.pth", part="emo"))
    assert one.message.endswith("has no part 'emo'")
    assert "'ema'" in one.hint


def test_order_finds_the_part_that_fits(tmp_path: Path) -> None:
    tensors = {f"layer{place}": value for place, value in enumerate(states().values()) if value.dim()}
    torch.save({"epoch": torch.tensor(1), "net": tensors}, tmp_path / "w.pth")
    assert holds(load_model(small(), weights="w.pth", match="order", folder=tmp_path), states())


# ---- what the tensors are -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {n: v.to(dtype) if v.is_floating_point() else v for n, v in states().items()}
    tensors["0.bias"][0] = torch.nan
    save_file(tensors, tmp_path / "w.safetensors")
    loaded = load_model(small(), weights="w.safetensors", folder=tmp_path).state_dict()
    assert loaded["0.bias"][0].isnan()
    assert torch.equal(loaded["0.bias"][1:], tensors["0.bias"][1:].float())
    assert torch.equal(loaded["3.weight"], tensors["3.weight"].float())


UNFIT: list[tuple[str, Callable[[Tensor], Tensor], str]] = [
    ("integers", lambda t: t.to(torch.int64), "3.weight: int64 in the file, float32 in the model"),
    ("bytes", lambda t: t.to(torch.uint8), "3.weight: uint8 in the file, float32 in the model"),
    ("booleans", lambda t: t > 0, "3.weight: bool in the file, float32 in the model"),
    ("complex", lambda t: t.to(torch.complex64), "3.weight: complex64 in the file, float32 in the model"),
    ("sparse", lambda t: t.to_sparse(), "3.weight: sparse float32 in the file"),
    ("csr", lambda t: t.to_sparse_csr(), "3.weight: sparse float32 in the file"),
    ("nested", lambda t: torch.nested.nested_tensor([*t]), "'3.weight' is a nested tensor"),
    ("meta", lambda t: t.to("meta"), "3.weight: without values float32 in the file"),
    (
        "quantized",
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
        "3.weight: quantized qint8 in the file",
    ),
    ("double", lambda t: t.double() * 1e300, "too large for the model's type (3.weight)"),
    ("transposed", lambda t: t.T, "1 of another shape (3.weight: (16, 5) in the file, (5, 16) in the model)"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of sparse and quantized tensors
@pytest.mark.parametrize(("change", "message"), [row[1:] for row in UNFIT], ids=[row[0] for row in UNFIT])
def test_tensors_that_are_no_weights(
    tmp_path: Path, change: Callable[[Tensor], Tensor], message: str
) -> None:
    tensors = states()
    torch.save({**tensors, "3.weight": change(tensors["3.weight"])}, tmp_path / "w.pth")
    assert message in fault(tmp_path, "w.pth").message


def test_integers_stay_integers(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("index", torch.tensor([3, 4]))
    model.register_buffer("mask", torch.tensor([True, False]))
    tensors = {**model.state_dict(), "index": torch.tensor([9, 8], dtype=torch.int32)}
    torch.save(tensors, tmp_path / "w.pth")
    assert load_model(model, weights="w.pth", folder=tmp_path).index.tolist() == [9, 8]
    for name, value in (("index", torch.ones(2)), ("mask", torch.ones(2, dtype=torch.uint8))):
        torch.save({**tensors, name: value}, tmp_path / "w.pth")
        assert f"1 of another type ({name}: " in fault(tmp_path, "w.pth", model).message


# ---- tied weights ---------------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers that are one, and a decoder that shares a parameter with an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.decoder = nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight
        layer = nn.Linear(4, 4)
        self.layers = nn.ModuleList([layer, layer])
        self.register_buffer("mask", torch.rand(3))
        self.alias = nn.Module()
        self.alias.register_buffer("mask", self.mask)


def test_tied_weights_are_in_a_file_once_or_twice(tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = Tied()
    expected = source.state_dict()
    save_model(source, str(tmp_path / "once.safetensors"))
    torch.save(expected, tmp_path / "twice.pth")
    torch.save({"model": prefixed("module.", dict(expected))}, tmp_path / "wrapped.pth")
    once = {n: v for n, v in expected.items() if n not in ("encoder.weight", "layers.0.bias", "mask")}
    np.savez(tmp_path / "other.npz", **{name: value.numpy() for name, value in once.items()})
    for file in ("once.safetensors", "twice.pth", "wrapped.pth", "other.npz"):
        model = said(lambda file=file: load_model(Tied(), weights=file, folder=tmp_path))[0]
        assert holds(model, expected), file
        assert model.decoder.weight is model.encoder.weight
    listed = {str(place): value for place, value in enumerate(expected.values())}
    torch.save(listed, tmp_path / "order.pth")
    assert holds(load_model(Tied(), weights="order.pth", match="order", folder=tmp_path), expected)


def test_tied_weights_that_are_missing_or_differ(tmp_path: Path) -> None:
    tensors = dict(Tied().state_dict())
    torch.save({n: v for n, v in tensors.items() if "mask" not in n}, tmp_path / "w.pth")
    assert "1 missing in the file (mask)" in fault(tmp_path, "w.pth", Tied()).message
    torch.save({**tensors, "layers.1.bias": torch.ones(4)}, tmp_path / "w.pth")
    one = fault(tmp_path, "w.pth", Tied())
    assert "1 shared in the model and different in the file (layers.0.bias and layers.1.bias)" in one.message


# ---- what is no weight file -----------------------------------------------------------------------


class Unsafe:
    def __reduce__(self) -> Any:
        return print, ("this must never be printed",)


def test_nothing_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": states(), "hook": Unsafe()}, tmp_path / "a.pth")
    torch.save({"a": Unsafe()}, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    (tmp_path / "c.bin").write_bytes(pickle.dumps({"a": Unsafe()}, protocol=2))
    (tmp_path / "d.pt").write_bytes(pickle.dumps({"a": Unsafe()}, protocol=5))
    np.savez(tmp_path / "e.npz", a=np.array([Unsafe()], dtype=object))
    for file in ("a.pth", "b.ckpt", "c.bin", "d.pt"):
        one = fault(tmp_path, file)
        assert "is no file of plain tensors" in one.message
        assert "weights_only=False" in one.hint  # how to convert it
    assert "allow_pickle=False" in fault(tmp_path, "e.npz").message
    assert capsys.readouterr().out == ""


def test_what_a_refused_file_says_can_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command in the hint makes a file that is taken."""
    monkeypatch.chdir(tmp_path)
    source = small()
    torch.save(source, "whole.pth")
    torch.save({"state_dict": states(), "args": {1: Path("a")}}, "path.pth")
    for file, expected in (("whole.pth", source.state_dict()), ("path.pth", states())):
        command = re.search(r"If you trust this one: (.*)$", fault(tmp_path, file).hint)
        assert command is not None
        exec(command[1], {"torch": torch})
        assert holds(load_model(small(), weights="weights.pth"), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"name,value\nconv,3.5\n", "it is text"),
        ("größe,3\n".encode(), "it is text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS did not fetch"),
        (b"<!DOCTYPE html><html></html>", "it is a web page"),
        (b"\x1f\x8b\x08\x00rest", "compressed by gzip"),
        (b"\x89HDF\r\n\x1a\n\0\0", "it is HDF5"),
        (b"\x93NUMPY\x01\0v\0", "one array without a name"),
        (b"\0\1\2\3\xfe\xff\0\0" * 5, "its format is unknown"),
        (b"PK\x03\x04 cut off", "cannot be read as a weight file"),
        (b"\x80\x02cut", "plain tensors"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "ckpt"])
def test_other_content(tmp_path: Path, content: bytes, message: str, suffix: str) -> None:
    (tmp_path / f"w.{suffix}").write_bytes(content)
    assert message in fault(tmp_path, f"w.{suffix}").message


def test_other_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("photo.txt", "text")
    assert "zip archive of other files" in fault(tmp_path, "w.pth").message
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    assert "TorchScript" in fault(tmp_path, "script.pt").message
    torch.save({"names": ["a", "b"], "epoch": 3}, tmp_path / "none.pth")
    assert "holds no tensors by name, but dict of names, epoch" in fault(tmp_path, "none.pth").message


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_a_file_that_would_become_huge_is_refused_before(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "w.pth"
    chunk = bytes(1_000_000)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("w/data.pkl", "w/data/0") if kind == "torch" else ("a.npy", "b.npy"):
            with archive.open(name, "w") as record:
                for _ in range(100):
                    record.write(chunk)
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("it was unpacked"))
    one = fault(tmp_path, "w.pth")
    assert re.search(r"would become 200 MB, expected at most 64 MB for this model", one.message)


def test_a_checkpoint_with_much_else_is_taken(tmp_path: Path) -> None:
    """What is not compressed is mapped, however large it is."""
    held = {"state_dict": states(), "optimizer": {"buffer": torch.zeros(20_000_000)}}
    torch.save(held, tmp_path / "w.pth")
    assert holds(load_model(small(), weights="w.pth", folder=tmp_path), states())


def test_a_mapping_that_holds_itself(tmp_path: Path) -> None:
    held: dict[str, Any] = {"state_dict": states()}
    held["self"] = held
    torch.save(held, tmp_path / "w.pth")
    assert holds(load_model(small(), weights="w.pth", folder=tmp_path), states())


# ---- names and files ------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["torchvision:squeezenet1_1", "timm:resnet10t"])
def test_files_are_never_names_of_a_library(tmp_path: Path, ref: str) -> None:
    for name in ("best.pth.tar", "last.ckpt", "w.npz", "v1.5", "./DEFAULT", "sub/IMAGENET1K_V1"):
        with pytest.raises(ModelError, match="there is no weight file"):
            load_model(ref, weights=name, folder=tmp_path)
    with pytest.raises(ModelError, match="has no weights 'checkpoint'"):
        load_model(ref, weights="checkpoint", folder=tmp_path)


def test_a_name_that_is_a_file_too(tmp_path: Path) -> None:
    model = load_model("torchvision:squeezenet1_1", arguments={"num_classes": 3})
    torch.save(model.state_dict(), tmp_path / "DEFAULT")

    def load(weights: str | Checkpoint) -> nn.Module:
        arguments = {"num_classes": 3}
        return load_model("torchvision:squeezenet1_1", weights=weights, arguments=arguments, folder=tmp_path)

    with pytest.raises(ModelError, match="a file of that name is there, too") as caught:
        load("DEFAULT")
    assert "'./DEFAULT'" in caught.value.faults[0].hint
    for weights in ("./DEFAULT", Checkpoint(file="DEFAULT")):
        assert holds(load(weights), model.state_dict())


def test_another_file_than_was_meant(tmp_path: Path) -> None:
    torch.save(states(1), tmp_path / "w.pth")
    meant = Checkpoint(file="w.pth", sha256=digest(tmp_path / "w.pth"))
    assert holds(load_model(small(), weights=meant, folder=tmp_path), states(1))
    torch.save(states(2), tmp_path / "w.pth")
    one = fault(tmp_path, meant)
    assert f"expected the SHA-256 {meant.sha256}, found {digest(tmp_path / 'w.pth')}" in one.message
    assert one.hint


def test_a_lazy_model_is_refused(tmp_path: Path) -> None:
    torch.save(states(), tmp_path / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ModelError, match="is lazy"):
        load_model(lazy, weights="w.pth", folder=tmp_path)


def test_the_fault_says_where_in_the_spec(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "name: a\nbackbone: {model: 'torchvision:squeezenet1_1', weights: w.ckpt, input: [3, 64, 64]}\n"
        "nodes: {e1: features.0}\nfeedback: to_input\n"
    )
    (tmp_path / "w.ckpt").write_text("a,b\n")
    with pytest.raises(pcg.ModelError) as caught:
        pcg.build(tmp_path / "a.yaml")
    assert str(caught.value).startswith(
        f"{tmp_path / 'a.yaml'}:2:48 backbone.weights: '{tmp_path / 'w.ckpt'}'"
    )
