"""The order of classes, wherever it is said, and what the labels of each kind of data are in it."""

from __future__ import annotations

from pathlib import Path

import pytest

import pcgraph as pcg
from pcgraph.datasets import open_data, read_classes
from pcgraph.datasets.classes import classes_of
from pcgraph.errors import InputError, SpecError
from pcgraph.spec import load_spec, to_yaml
from pcgraph.spec.dump import rooted
from tests.datasets.conftest import Writer

SPEC = "name: s\nbackbone: {{model: 'torchvision:resnet18', classes: {}}}\nnodes: {{a: layer1}}\n"


def labels(reference: str, **more: object) -> list[int]:
    data = open_data(reference, "test", shape=(3, 8, 8), **more)  # type: ignore[arg-type]
    return [data.label(place) for place in range(len(data))]


def test_a_file_a_list_and_imagenet(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("\ufeffcat \r\n dog\r\nhot dog\r\n\r\n", encoding="utf-8")
    assert read_classes("c.txt", tmp_path) == ["cat", "dog", "hot dog"]
    assert read_classes("cat, dog,hot dog") == ["cat", "dog", "hot dog"]
    assert read_classes("imagenet") == "imagenet"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\ndog\ncat\n", "'cat' is the name of two classes"),
        (b"cat\n\ndog\n", "the name of class 1 is empty"),
        (b"cat\n", "1 names of classes"),
        (b"", "0 names of classes"),
        (b"\xff\xfe\x00cat", "no UTF-8 text"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_classes("c.txt", tmp_path)


def test_no_such_file(tmp_path: Path) -> None:
    for text in ("c.txt", ".", "/dev/zero"):
        with pytest.raises(InputError, match="no such file of classes"):
            read_classes(text, tmp_path)


def test_in_a_spec(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "c.txt").write_text("b\na\n")
    (tmp_path / "inside" / "s.yaml").write_text(SPEC.format("c.txt"))
    spec = load_spec(tmp_path / "inside" / "s.yaml")
    assert classes_of(spec) == ["b", "a"]
    (tmp_path / "top.yaml").write_text("extends: inside/s.yaml\nname: top\n")
    top = load_spec(tmp_path / "top.yaml")
    assert classes_of(top) == ["b", "a"]
    assert classes_of(pcg.parse_spec(to_yaml(rooted(top)), folder="/")) == ["b", "a"]
    for text, found in (("[b, a, c]", ("b", "a", "c")), ("imagenet", "imagenet"), ("null", None)):
        spec = pcg.parse_spec(SPEC.format(text))
        assert classes_of(spec) == found
        assert classes_of(pcg.parse_spec(to_yaml(spec))) == found
        assert classes_of(rooted(spec)) == found


@pytest.mark.parametrize("text", ["[a]", "[]", "[a, a]", "3", "[a, 3]", "''", "['', b]", "{a: 1}"])
def test_specs_that_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"backbone\.classes"):
        pcg.parse_spec(SPEC.format(text))


def test_class_folders(write: Writer, tmp_path: Path) -> None:
    for name in ("ant", "bee", "cat"):
        write(f"{name}/1.png")
    reference = f"folder:{tmp_path}"
    assert labels(reference) == [0, 1, 2]
    assert sorted(labels(reference, classes=["cat", "ant", "bee", "dog"])) == [0, 1, 2]
    data = open_data(reference, "test", shape=(3, 8, 8), classes=["cat", "dog", "ant", "bee"])
    assert [data.source.paths[place].parent.name for place in range(3)] == ["cat", "ant", "bee"]  # type: ignore[attr-defined]
    assert [data.label(place) for place in range(3)] == [0, 2, 3]


@pytest.mark.parametrize("names", [["n07920052", "n01440764"], ["967", "0"], ["espresso", "tench"]])
def test_class_folders_of_imagenet(write: Writer, tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(f"{name}/1.png")
    assert sorted(labels(f"folder:{tmp_path}", classes="imagenet")) == [0, 967]


@pytest.mark.parametrize("names", [["n07920052", "0"], ["cranes", "tench"], ["1000", "0"], ["cats", "dogs"]])
def test_class_folders_that_are_not_of_imagenet(write: Writer, tmp_path: Path, names: list[str]) -> None:
    """A mixture; a name with a slip; a label too high; others."""
    for name in names:
        write(f"{name}/1.png")
    with pytest.raises(InputError, match="is none of the classes"):
        labels(f"folder:{tmp_path}", classes="imagenet")


def test_some_classes_of_imagenet(write: Writer, tmp_path: Path) -> None:
    write("val/n07920052/1.JPEG")
    write("val/n01440764/2.JPEG")
    reference = f"imagenet:{tmp_path}"
    assert labels(reference) == labels(reference, classes="imagenet") == [0, 967]
    assert labels(reference, classes=["n07920052", "n15075141", "n01440764"]) == [2, 0]
    assert labels(reference, classes=["espresso", "tench"]) == [1, 0]
    with pytest.raises(InputError, match="'n01440764' is none of the classes"):
        labels(reference, classes=["n07920052", "n15075141"])


def test_data_with_classes_of_their_own() -> None:
    own = labels("digits")
    order = [str(digit) for digit in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)]
    assert labels("digits", classes=order) == [order.index(str(label)) for label in own]
    assert labels("digits:test:0-9", classes=order) == [order.index(str(label)) for label in own[:10]]
    with pytest.raises(InputError, match="'0' is none of the classes"):
        labels("digits", classes=["zero", "one"])


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["cat", "dog", "cat"], "'cat' is the name of two classes"),
        (["cat", ""], "the name of class 1 is empty"),
        (["cat"], "1 names of classes, expected two or more"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, classes: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_data(f"folder:{tmp_path}", "test", shape=(3, 8, 8), classes=classes)
