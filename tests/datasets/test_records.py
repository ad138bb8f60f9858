"""Tar files of WebDataset and tables of Hugging Face, written by these libraries and read as folders are."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pcgraph.datasets import ImageData, batches, data_digest, open_data
from pcgraph.datasets.huggingface import Table
from pcgraph.errors import InputError, PCGraphWarning

webdataset = pytest.importorskip("webdataset")
datasets = pytest.importorskip("datasets")
NAMES = ["cat", "ant", "bee"]
"""Not in the order of the alphabet."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def encoded(value: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((10, 12, 3), value, dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


def opened(reference: str, part: str = "test", **more: Any) -> ImageData:
    return open_data(reference, part, shape=(3, 8, 8), **more)  # type: ignore[arg-type]


def contents(data: ImageData) -> list[tuple[int, int]]:
    items = [data[index] for index in range(len(data))]
    return [(round(float(item.image.mean()) * 255), item.label) for item in items]


# ---- WebDataset --------------------------------------------------------------------------------------


def write_tar(path: Path, samples: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for number, sample in enumerate(samples):
            writer.write({"__key__": f"{number:04d}", **sample})
    return path


def raw_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def labelled(values: Iterable[int]) -> list[dict[str, Any]]:
    return [{"png": encoded(value), "cls": str(value % 3)} for value in values]


def test_one_tar_file(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", labelled(range(7)))
    data = opened(f"webdataset:{path}")
    assert contents(data) == [(value, value % 3) for value in range(7)]
    assert data.classes == ["0", "1", "2"]
    assert contents(opened(f"webdataset:{path}", "train")) == contents(data)
    assert contents(opened(f"webdataset:{path}:test:2,5")) == [(2, 2), (5, 2)]
    # as the library reads it, sample by sample
    theirs = [
        (sample["__key__"], sample["png"]) for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    ]
    assert [content for _, content in theirs] == [data.source.content(place) for place in range(7)]  # type: ignore[attr-defined]


def test_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in range(11):
        write_tar(tmp_path / f"d-{number}.tar", labelled([number * 2, number * 2 + 1]))
    expected = [(value, value % 3) for value in range(22)]
    assert contents(opened(f"webdataset:{tmp_path}")) == expected
    assert contents(opened(f"webdataset:{tmp_path}/d-{{0..10}}.tar")) == expected
    assert contents(opened(f"webdataset:{tmp_path}/d-{{1,0}}.tar")) == [(2, 2), (3, 0), (0, 0), (1, 1)]
    with pytest.raises(InputError, match=r"d-11.tar: there is no such file"):
        opened(f"webdataset:{tmp_path}/d-{{0..11}}.tar")


@pytest.mark.parametrize("name", ["{}-0.tar", "{}/0.tar", "in-{}-000.tar", "{}_v2_0.tar"])
@pytest.mark.parametrize("held", ["test", "val", "validation"])
def test_parts(tmp_path: Path, name: str, held: str) -> None:
    write_tar(tmp_path / name.format("train"), labelled([1, 2]))
    write_tar(tmp_path / name.format(held), labelled([3]))
    assert contents(opened(f"webdataset:{tmp_path}", "train")) == [(1, 1), (2, 2)]
    assert contents(opened(f"webdataset:{tmp_path}")) == [(3, 0)]
    assert contents(opened(f"webdataset:{tmp_path}:train:1")) == [(2, 2)]


def test_parts_that_cannot_be_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", labelled([1]))
    with pytest.raises(InputError, match="there is no part 'test', but 'train'"):
        opened(f"webdataset:{tmp_path}")
    write_tar(tmp_path / "other-0.tar", labelled([1]))
    write_tar(tmp_path / "more-0.tar", labelled([1]))
    with pytest.raises(InputError, match="files of several sets"):
        opened(f"webdataset:{tmp_path}", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no file that ends in \.tar"):
        opened(f"webdataset:{tmp_path}/empty")


def test_labels_that_are_names(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", [{"jpg": encoded(9, "JPEG"), "cls": name} for name in ("bee", "cat")]
    )
    with pytest.raises(InputError, match=r"the label 'bee' is no number below 1,000,000\n.*--classes"):
        opened(f"webdataset:{path}")
    data = opened(f"webdataset:{path}", classes=NAMES)
    assert [label for _, label in contents(data)] == [2, 0]
    with pytest.raises(InputError, match="'bee' is none of the classes"):
        opened(f"webdataset:{path}", classes=["cat", "ant"])
    with pytest.raises(InputError, match="the label 5, where 3 classes are named"):
        opened(
            f"webdataset:{write_tar(tmp_path / 'b.tar', [{'png': encoded(1), 'cls': '5'}])}", classes=NAMES
        )


def test_labels_of_imagenet(tmp_path: Path) -> None:
    wnid = write_tar(tmp_path / "a.tar", [{"png": encoded(1), "cls": "n07920052"}])
    number = write_tar(tmp_path / "b.tar", [{"png": encoded(1), "cls": "967"}])
    for path in (wnid, number):
        data = opened(f"webdataset:{path}", classes="imagenet")
        assert contents(data) == [(1, 967)]
        assert data.classes is not None
        assert data.classes[967] == "espresso"


def test_no_labels_are_guessed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [{"png": encoded(4), "json": {"label": 3}, "txt": "7"}])
    assert contents(opened(f"webdataset:{path}")) == [(4, -1)]
    path = write_tar(tmp_path / "b.tar", [{"png": encoded(4), "cls": "1"}, {"png": encoded(5)}])
    with pytest.raises(InputError, match=r"b.tar:0000.cls is a label, and .*0001.png has none"):
        opened(f"webdataset:{path}")


REFUSED: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "no image": ([("a.npy", b"1"), ("a.cls", b"0")], "a sample without an image: it has .npy, .cls"),
    "two images": ([("a.left.png", b"1"), ("a.right.png", b"2")], "a sample of several images"),
    "twice": ([("a.png", b"1"), ("a.png", b"2")], "two files of this name"),
    "a huge label": ([("a.png", b"1"), ("a.cls", b"1" * 5000)], "a label of 5,000 bytes"),
    "a label alone": ([("a.png", b"1"), ("b.cls", b"1")], "a sample without an image"),
    "a negative label": ([("a.png", b"1"), ("a.cls", b"-1")], "the label '-1' is no number"),
    "a label that is too large": (
        [("a.png", b"1"), ("a.cls", b"1234567")],
        "the label '1234567' is no number",
    ),
    "digits of another script": ([("a.png", b"1"), ("a.cls", "٣".encode())], "the label '٣' is no number"),
    "a label with a comma": ([("a.png", b"1"), ("a.cls", b"1,5")], "the label '1,5' is no number"),
    "nothing": ([], "there is no image in these tar files"),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_tar_files_that_are_refused(tmp_path: Path, kind: str) -> None:
    files, message = REFUSED[kind]
    with pytest.raises(InputError, match=message):
        opened(f"webdataset:{raw_tar(tmp_path / 'a.tar', files)}")


def test_companions_and_notes_are_no_samples(tmp_path: Path) -> None:
    files = [
        ("__meta__", b"{}"),
        ("._0.png", b"x"),
        ("0.png", encoded(3)),
        ("0.cls", b"0\n"),
        ("README", b""),
    ]
    assert contents(opened(f"webdataset:{raw_tar(tmp_path / 'a.tar', files)}")) == [(3, 0)]


def test_files_that_are_no_whole_tar_files(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", labelled(range(4))).read_bytes()
    with tarfile.open(tmp_path / "c.tar", "w:gz") as tar:
        tar.add(tmp_path / "a.tar")
    (tmp_path / "b.tar").write_bytes(b"no tar file")
    (tmp_path / "d.tar").write_bytes(whole[:2500])
    last = whole.rstrip(b"\0")
    (tmp_path / "e.tar").write_bytes(last + bytes(-len(last) % 512))  # between two members
    for name in "bcde":
        with pytest.raises(InputError, match="tar file"):
            contents(opened(f"webdataset:{tmp_path / f'{name}.tar'}"))


@pytest.mark.parametrize("path", ["pipe:touch made", "a.tar::b.tar", "http://localhost/{0..3}.tar", "-"])
def test_nothing_but_files_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no such file"):
        opened(f"webdataset:{path}")
    assert not (tmp_path / "made").exists()


# ---- Hugging Face ------------------------------------------------------------------------------------


def table(values: Iterable[int], names: list[str] | None = NAMES, **columns: Any) -> Any:
    values = list(values)
    kinds = {"image": datasets.Image(), **{name: kind for name, (kind, _) in columns.items()}}
    rows = {"image": [{"bytes": encoded(v), "path": None} for v in values]}
    rows.update({name: found for name, (_, found) in columns.items()})
    if names is not None:
        kinds["label"] = datasets.ClassLabel(names=names)
        rows["label"] = [value % len(names) for value in values]
    return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))


def test_a_saved_table(tmp_path: Path) -> None:
    table(range(5)).save_to_disk(tmp_path / "d")
    data = opened(f"huggingface:{tmp_path}/d")
    assert contents(data) == [(value, value % 3) for value in range(5)]
    assert data.classes == NAMES
    assert contents(opened(f"huggingface:{tmp_path}/d:train:1,4")) == [(1, 1), (4, 1)]


@pytest.mark.parametrize("held", ["test", "validation", "val"])
def test_saved_parts(tmp_path: Path, held: str) -> None:
    datasets.DatasetDict({"train": table([1, 2]), held: table([3])}).save_to_disk(tmp_path / "d")
    assert contents(opened(f"huggingface:{tmp_path}/d", "train")) == [(1, 1), (2, 2)]
    assert contents(opened(f"huggingface:{tmp_path}/d")) == [(3, 0)]


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table([1]), "extra": table([3])}).save_to_disk(tmp_path / "d")
    with pytest.raises(InputError, match="there is no part 'test', but 'train', 'extra'"):
        opened(f"huggingface:{tmp_path}/d")


def test_parquet(tmp_path: Path) -> None:
    for name, values in (
        ("data/train-00000-of-00002", [1, 2]),
        ("data/train-00001-of-00002", [4]),
        ("data/test-0", [5]),
    ):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        table(values).to_parquet(tmp_path / "p" / f"{name}.parquet")
    (tmp_path / "p" / "README.md").write_text(
        "---\nconfigs: [{config_name: x, data_files: http://localhost/x}]\n---\n"
    )
    (tmp_path / "p" / "p.py").write_text("raise SystemExit('run')")
    data = opened(f"huggingface:{tmp_path}/p", "train")
    assert contents(data) == [(1, 1), (2, 2), (4, 1)]
    assert data.classes == NAMES
    assert contents(opened(f"huggingface:{tmp_path}/p")) == [(5, 2)]
    assert contents(opened(f"huggingface:{tmp_path}/p/data/test-0.parquet", "train")) == [(5, 2)]


def test_labels_follow_the_order_of_the_network(tmp_path: Path) -> None:
    table(range(3)).save_to_disk(tmp_path / "d")
    data = opened(f"huggingface:{tmp_path}/d", classes=["ant", "bee", "cat"])
    assert contents(data) == [(0, 2), (1, 0), (2, 1)]
    assert data.classes == ["ant", "bee", "cat"]
    with pytest.raises(InputError, match="'cat' is none of the classes"):
        opened(f"huggingface:{tmp_path}/d", classes=["ant", "bee"])


def test_columns(tmp_path: Path) -> None:
    number = (datasets.Value("int64"), [7])
    table([1], None, label=number).save_to_disk(tmp_path / "number")
    with pytest.warns(PCGraphWarning, match="the column 'label' is no datasets.ClassLabel"):
        assert contents(opened(f"huggingface:{tmp_path}/number")) == [(1, -1)]
    coarse = (datasets.ClassLabel(names=["x", "y"]), [1])
    table([1], coarse=coarse).save_to_disk(tmp_path / "two")
    with pytest.raises(InputError, match="several columns hold labels: 'coarse', 'label'"):
        opened(f"huggingface:{tmp_path}/two")
    table([1]).remove_columns("image").save_to_disk(tmp_path / "none")
    with pytest.raises(InputError, match=r"no column of pictures among 'label' \(ClassLabel\)"):
        opened(f"huggingface:{tmp_path}/none")
    table([1, 2]).add_column(
        "other", [{"bytes": encoded(1), "path": None}] * 2, feature=datasets.Image()
    ).save_to_disk(tmp_path / "pictures")
    with pytest.raises(InputError, match="several columns hold pictures"):
        opened(f"huggingface:{tmp_path}/pictures")


@pytest.mark.parametrize("label", [-1, None])
def test_rows_without_a_label(tmp_path: Path, label: int | None) -> None:
    kind = datasets.ClassLabel(names=NAMES)
    table([1, 2], None, label=(kind, [0, label])).save_to_disk(tmp_path / "d")
    with pytest.raises(InputError, match="row 1 has no label"):
        opened(f"huggingface:{tmp_path}/d")


def test_pictures_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(6))
    source = Table("huggingface:d", [{"image": {"bytes": None, "path": str(tmp_path / "a.png")}}], "image")
    assert source.content(0) == encoded(6)


@pytest.mark.parametrize("path", ["http://localhost/c.png", "zip://a.png::http://localhost/x.zip", "", None])
def test_pictures_are_not_fetched(path: str | None) -> None:
    source = Table("huggingface:d", [{"image": {"bytes": None, "path": path}}], "image")
    with pytest.raises(InputError, match="neither in the table nor in a file that is here"):
        source.content(0)


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.parquet").write_bytes(b"no table")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_info.json").write_text(json.dumps({"a": 1}))
    for name, message in (
        ("empty", ".parquet"),
        ("bad", "cannot be read"),
        ("saved", "cannot be read"),
        ("no", "no such"),
    ):
        with pytest.raises(InputError, match=message):
            opened(f"huggingface:{tmp_path / name}")


# ---- both --------------------------------------------------------------------------------------------


@pytest.fixture(params=["webdataset", "huggingface"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    values = range(9)
    if request.param == "webdataset":
        return f"webdataset:{write_tar(tmp_path / 'a.tar', labelled(values))}"
    table(values).save_to_disk(tmp_path / "d")
    return f"huggingface:{tmp_path}/d"


def test_the_same_in_any_process_and_order(both: str) -> None:
    data = opened(both)
    plain = list(batches(data, 4, seed=1, shuffle=True))
    ahead = list(batches(opened(both), 4, seed=1, shuffle=True, workers=2))
    assert all(torch.equal(one.images, other.images) for one, other in zip(plain, ahead, strict=True))
    assert [one.labels.tolist() for one in plain] == [other.labels.tolist() for other in ahead]
    assert data_digest(data) == data_digest(opened(both))


def test_other_contents_have_another_digest(tmp_path: Path) -> None:
    digests = set()
    for values in ([1, 2], [1, 3], [2, 1]):
        path = write_tar(tmp_path / "a.tar", [{"png": encoded(v), "cls": "0"} for v in values])
        digests.add(data_digest(opened(f"webdataset:{path}")))
        table(values, ["x"]).save_to_disk(tmp_path / f"{values}")
        digests.add(data_digest(opened(f"huggingface:{tmp_path}/{values}")))
    assert len(digests) >= 3


def test_a_broken_picture_is_named_or_skipped(tmp_path: Path) -> None:
    good = encoded(5)
    path = raw_tar(tmp_path / "a.tar", [("a.png", good), ("b.png", good[:40]), ("c.png", b"%!PS-Adobe")])
    rows = {"image": [{"bytes": content, "path": None} for content in (good, good[:40], b"%!PS-Adobe")]}
    datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()})).save_to_disk(
        tmp_path / "d"
    )
    for reference, name in ((f"webdataset:{path}", "a.tar:b.png"), (f"huggingface:{tmp_path}/d", r"d\[1\]")):
        with pytest.raises(InputError, match=name):
            contents(opened(reference))
        data = opened(reference, skip_broken=True)
        assert sum(len(batch) for batch in batches(data, 2)) == 1
        assert len(data.skipped) == 2


@pytest.mark.parametrize(
    ("kind", "package"), [("webdataset", "webdataset.tariterators"), ("huggingface", "datasets")]
)
def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, package: str) -> None:
    path = write_tar(tmp_path / "a.tar", labelled([1]))
    for name in [name for name in sys.modules if name.partition(".")[0] == package.partition(".")[0]]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        InputError, match=rf"'{package.partition('.')[0]}' is not installed\n.*pcgraph\[data\]"
    ):
        opened(f"{kind}:{path}")


@pytest.mark.heavy
@pytest.mark.long
def test_neither_is_imported_before_it_is_needed() -> None:
    names = "('webdataset', 'datasets', 'pyarrow')"
    code = f"import sys, pcgraph.datasets; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
