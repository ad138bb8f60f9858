"""Data as their owner means them: which folder is which part, the order of classes, what is no image."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import EpsImagePlugin

from pcgraph.datasets import open_data
from pcgraph.datasets.images import find_images
from pcgraph.errors import InputError
from tests.datasets.conftest import Writer

from .test_folders import contents, opened


@pytest.mark.parametrize(
    "held", ["val", "valid", "validate", "validation", "dev", "test", "Valid", "TEST", "testing"]
)
@pytest.mark.parametrize("train", ["train", "Train", "training"])
def test_parts_by_any_of_their_names(write: Writer, tmp_path: Path, train: str, held: str) -> None:
    for name, value in [("cat", 1), ("dog", 2)]:
        write(f"{train}/{name}/a.png", value)
        write(f"{held}/{name}/b.png", value + 10)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text("{}")
    assert contents(opened(f"folder:{tmp_path}", "train")) == [(1, 0), (2, 1)]
    assert contents(opened(f"folder:{tmp_path}")) == [(11, 0), (12, 1)]


def test_of_three_parts_the_tests_are_test(write: Writer, tmp_path: Path) -> None:
    for place, part in enumerate(["train", "val", "test"]):
        write(f"{part}/cat/a.png", place)
    assert contents(opened(f"folder:{tmp_path}")) == [(2, 0)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["train/cat/a.png"], "'train' alone: a part of a data set, or a class"),
        (["valid/cat/a.png"], "'valid' alone"),
        (["train/cat/a.png", "val/cat/a.png", "valid/cat/a.png"], "'val' and 'valid' could both be"),
        (["train/cat/a.png", "val/cat/a.png", "more/cat/a.png"], "beside 'more', which holds images"),
        (["train/cat/a.png", "test/a.png"], "images without class folders, which the other part has"),
        (["train2017/cat/a.png", "val2017/cat/a.png"], "'train2017' and 'val2017' hold the same folders"),
        (["train/cat/a.png", "holdout/cat/a.png"], "'train' and 'holdout' hold the same folders"),
        (["my_train/1/a.png", "other/1/a.png", "other/2/a.png"], "parts of a data set, or classes"),
        (["seg_train/seg_train/cat/a.png", "seg_test/seg_test/cat/a.png"], "are called alike: parts"),
        (["asl_train/A/a.png", "asl_test/A_test.png"], "'asl_train' and 'asl_test' are called alike"),
        (["TrainSet/a.png", "ValidSet/a.png"], "'TrainSet' and 'ValidSet' are called alike"),
        (["images/cat/a.png", "images/dog/a.png"], "'images' alone holds 'cat', in which images are"),
        (["images/train/cat/a.png", "images/val/cat/a.png"], "'images' alone holds 'train'"),
        (["train/x/cat/a.png", "val/x/cat/a.png"], "'x' alone holds 'cat'"),
        (["1/a.png", "01/a.png", "2/a.png"], "'01' and '1' are the same number"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    write: Writer, tmp_path: Path, files: list[str], said: str
) -> None:
    for file in files:
        write(file)
    with pytest.raises(InputError, match=said):
        opened(f"folder:{tmp_path}")


def test_a_class_may_be_called_train(write: Writer, tmp_path: Path) -> None:
    for place, name in enumerate(["bus", "car", "train"]):
        write(f"{name}/a.png", place)
    data = opened(f"folder:{tmp_path}", "train")
    assert data.classes == ["bus", "car", "train"]
    assert contents(data) == [(0, 0), (1, 1), (2, 2)]


def test_classes_may_be_called_a_little_like_parts(write: Writer, tmp_path: Path) -> None:
    for name in ("test_tube", "train_station", "valley"):
        write(f"{name}/a.png")
    assert opened(f"folder:{tmp_path}").classes == ["test_tube", "train_station", "valley"]


def test_one_class_may_be_all_there_is(write: Writer, tmp_path: Path) -> None:
    """Where it holds its images itself, or is named."""
    write("a/cat/1.png", 1)
    write("a/cat/more/2.png", 2)
    assert contents(opened(f"folder:{tmp_path / 'a'}")) == [(1, 0), (2, 0)]
    write("b/cat/more/1.png", 1)
    data = open_data(f"folder:{tmp_path / 'b'}", "test", shape=(3, 8, 8), classes=["dog", "cat"])
    assert contents(data) == [(1, 1)]


@pytest.mark.parametrize("form", ["{}", "{:03}"])
def test_numbers_are_in_the_order_of_numbers(write: Writer, tmp_path: Path, form: str) -> None:
    for number in range(12):
        write(f"{form.format(number)}/a.png", number)
    assert contents(opened(f"folder:{tmp_path}")) == [(number, number) for number in range(12)]


def test_numbers_below_zero_are_numbers(write: Writer, tmp_path: Path) -> None:
    for number in range(-11, 3):
        write(f"{number}/a.png", number + 11)
    assert opened(f"folder:{tmp_path}").classes == [str(number) for number in range(-11, 3)]


def test_names_with_numbers_in_them_stay_text(write: Writer, tmp_path: Path) -> None:
    for name in ["10", "9", "other"]:
        write(f"{name}/a.png", len(name))
    assert opened(f"folder:{tmp_path}").classes == ["10", "9", "other"]


def test_the_order_of_the_classes_can_be_said(write: Writer, tmp_path: Path) -> None:
    for value, name in [(1, "cat"), (2, "dog")]:
        write(f"{name}/a.png", value)
    data = open_data(f"folder:{tmp_path}", "test", shape=(3, 8, 8), classes=["dog", "bird", "cat"])
    assert data.classes == ["dog", "bird", "cat"]
    assert contents(data) == [(2, 0), (1, 2)]
    with pytest.raises(InputError, match=r"'dog' is none of the classes\n.*Did you mean 'dogs'"):
        open_data(f"folder:{tmp_path}", "test", shape=(3, 8, 8), classes=["cat", "dogs"])


COMPANIONS = ["._a.png", ".DS_Store", "Thumbs.db", ".ipynb_checkpoints/a.png", "__MACOSX/a.png"]
COMPANIONS += [".hidden/cat/a.png"]


def test_companions_are_no_images(write: Writer, tmp_path: Path) -> None:
    write("cat/a.png", 1)
    write("dog/b.png", 2)
    for place in ("", "cat/"):
        for name in COMPANIONS:
            (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place / name).write_bytes(b"\0\5\x16\7")
    assert contents(opened(f"folder:{tmp_path}")) == [(1, 0), (2, 1)]
    assert find_images([str(tmp_path)]) == [tmp_path / "cat" / "a.png", tmp_path / "dog" / "b.png"]


def test_loops_of_links_are_told(write: Writer, tmp_path: Path) -> None:
    write("cat/a.png", 1)
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    for read in (lambda: opened(f"folder:{tmp_path}"), lambda: find_images([str(tmp_path)])):
        with pytest.raises(InputError, match="leads back"):
            read()


def test_a_link_to_a_folder_elsewhere_is_a_folder(write: Writer, tmp_path: Path) -> None:
    write("elsewhere/a.png", 1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    assert contents(opened(f"folder:{tmp_path / 'data'}")) == [(1, 0)]


@pytest.mark.parametrize("name", ["photo.jpg", "photo.PNG", "photo.gif"])
def test_no_decoder_but_those_of_the_documented_formats_sees_a_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostScript is a program: Pillow would hand it to Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript runs"))
    (tmp_path / name).write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(InputError, match="no image file that can be read"):
        opened(f"folder:{tmp_path}")[0]
