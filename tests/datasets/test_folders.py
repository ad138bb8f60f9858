"""Folders as people have them on disk, and what is said where they are not as they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pcgraph.datasets import ImageData, corruption_sets, open_data
from pcgraph.datasets.imagenet_classes import class_names, wnids
from pcgraph.datasets.sources import Files
from pcgraph.errors import InputError
from tests.datasets.conftest import Writer


def opened(reference: str, split: str = "test") -> ImageData:
    return open_data(reference, split, shape=(3, 8, 8))  # type: ignore[arg-type]


def contents(data: ImageData) -> list[tuple[int, int]]:
    """The colour and the label of each picture."""
    items = [data[index] for index in range(len(data))]
    return [(round(float(item.image.mean()) * 255), item.label) for item in items]


def test_class_folders(write: Writer, tmp_path: Path) -> None:
    write("cats/2.png", 2)
    write("cats/1.JPEG", 1)
    write("dogs/small/4.png", 4)
    write("dogs/3.png", 3)
    (tmp_path / "dogs" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    data = opened(f"folder:{tmp_path}")
    assert data.classes == ["cats", "dogs"]
    assert contents(data) == [(1, 0), (2, 0), (3, 1), (4, 1)]
    assert contents(opened(f"folder:{tmp_path}", "train")) == contents(data)


def test_a_folder_in_two_parts(write: Writer, tmp_path: Path) -> None:
    write("train/a/1.png", 1)
    write("train/c/4.png", 4)
    write("val/b/2.png", 2)
    write("val/c/3.png", 3)
    train, test = opened(f"folder:{tmp_path}", "train"), opened(f"folder:{tmp_path}")
    assert train.classes == test.classes == ["a", "b", "c"]  # a label means the same in both
    assert contents(train) == [(1, 0), (4, 2)]
    assert contents(test) == [(2, 1), (3, 2)]


def test_just_images_have_no_labels(write: Writer, tmp_path: Path) -> None:
    for name in "ba":
        write(f"{name}.png", ord(name))
    data = opened(f"folder:{tmp_path}")
    assert not data.labelled
    assert contents(data) == [(97, -1), (98, -1)]
    write("more/c.png")
    with pytest.raises(InputError, match=r"images \('a.png'\) beside folders of images \('more'\)"):
        opened(f"folder:{tmp_path}")


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        opened(f"folder:{tmp_path}")
    with pytest.raises(InputError, match="Did you mean 'inside'"):
        opened(f"folder:{tmp_path / 'inside_'}")


def test_a_file_that_vanished_is_named(write: Writer, tmp_path: Path) -> None:
    path = write("a/1.png")
    data = opened(f"folder:{tmp_path}")
    path.unlink()
    with pytest.raises(InputError, match=r"1\.png"):
        data[0]


def test_the_classes_of_imagenet() -> None:
    assert len(wnids()) == len(set(wnids())) == len(class_names()) == 1000
    assert wnids() == sorted(wnids())
    names = dict(zip(wnids(), class_names(), strict=True))
    # from the challenge's own synset_words.txt
    assert names["n01440764"] == "tench"
    assert names["n02123045"] == "tabby"
    assert names["n07920052"] == "espresso"
    assert names["n15075141"] == "toilet tissue"


def test_imagenet_in_class_folders_keeps_the_numbers(write: Writer, tmp_path: Path) -> None:
    write("train/n07920052/x_1.JPEG", 9)
    write("val/n07920052/ILSVRC2012_val_00000001.JPEG", 1)
    write("val/n01440764/ILSVRC2012_val_00000002.JPEG", 2)
    data = opened(f"imagenet:{tmp_path}")
    assert contents(data) == [(2, 0), (1, 967)]
    assert data.classes is not None
    assert data.classes[967] == "espresso"
    assert contents(opened(f"imagenet:{tmp_path}", "train")) == [(9, 967)]
    write("val/cats/1.JPEG")
    with pytest.raises(InputError, match="'cats' is no class of ImageNet"):
        opened(f"imagenet:{tmp_path}")


@pytest.mark.parametrize("inside", ["", "val/"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nb,n07920052 1 2 3 4 n07920052 1 2 3 4 \na,n01440764 5 6 7 8 \n",
        ),
        ("val.txt", "a.JPEG 0\nb.JPEG 967\n"),
    ],
)
def test_imagenet_in_one_folder_with_a_label_file(
    write: Writer, tmp_path: Path, name: str, text: str, inside: str
) -> None:
    write("val/a.JPEG", 1)
    write("val/b.JPEG", 2)
    with pytest.raises(InputError, match=f"without a label file\n.*{name}"):
        opened(f"imagenet:{tmp_path}")
    (tmp_path / inside / name).write_text(text)
    assert contents(opened(f"imagenet:{tmp_path}")) == [(1, 0), (2, 967)]
    write("val/c.JPEG", 2)
    with pytest.raises(InputError, match=r"c\.JPEG: the label file does not name this image"):
        opened(f"imagenet:{tmp_path}")


@pytest.mark.parametrize("line", ["a.JPEG", "a.JPEG 1000", "a.JPEG cat"])
def test_a_label_file_that_is_wrong(write: Writer, tmp_path: Path, line: str) -> None:
    write("val/a.JPEG")
    (tmp_path / "val.txt").write_text(f"b.JPEG 3\n{line}\n")
    with pytest.raises(InputError, match=f"val.txt:2: expected .* got '{line}'"):
        opened(f"imagenet:{tmp_path}")


def test_imagenet_without_its_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder 'train' inside"):
        opened(f"imagenet:{tmp_path}", "train")
    (tmp_path / "val").mkdir()
    with pytest.raises(InputError, match="no class folders"):
        opened(f"imagenet:{tmp_path}")


def test_imagenet_c(write: Writer, tmp_path: Path) -> None:
    for corruption, severity, value in [("fog", 2, 5), ("fog", 1, 4), ("blur/zoom_blur", 3, 6)]:
        write(f"{corruption}/{severity}/n07920052/a.JPEG", value)
    sets = corruption_sets(tmp_path)
    assert [(one.corruption, one.severity) for one in sets] == [("fog", 1), ("fog", 2), ("zoom_blur", 3)]
    assert [contents(opened(one.reference)) for one in sets] == [[(4, 967)], [(5, 967)], [(6, 967)]]
    with pytest.raises(InputError, match=r"expected one corruption and severity\n.*3 here.*zoom_blur/3"):
        opened(f"imagenet-c:{tmp_path}")
    with pytest.raises(InputError, match="for tests only"):
        opened(sets[0].reference, "train")
    with pytest.raises(InputError, match="no corrupted set"):
        corruption_sets(tmp_path / "fog" / "1")


def test_any_file_name_is_found_again(write: Writer, tmp_path: Path) -> None:
    names = ["ä é.png", "long" * 40 + ".png", "x.png", "日本.png"]
    for name in names:
        write(f"a/{name}", 1)
    data = opened(f"folder:{tmp_path}")
    assert isinstance(data.source, Files)
    assert sorted(path.name for path in data.source.paths) == sorted(names)
    assert data.source.paths[1:3] == [data.source.paths[1], data.source.paths[2]]
    assert contents(data) == [(1, 0)] * 4


def test_grey_and_other_sizes(write: Writer, tmp_path: Path) -> None:
    write("1.png", 51, size=(40, 20))
    data = open_data(f"folder:{tmp_path}", "test", shape=(1, 6, 9))
    assert torch.allclose(data[0].image, torch.full((1, 6, 9), 0.2))
