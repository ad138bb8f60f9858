"""The files that come with pcgraph can be found, in a checkout and in a built wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pcgraph.errors import InputError, SpecError
from pcgraph.files.shipped import photo, photos, shipped_spec, shipped_specs

ROOT = Path(__file__).parents[2]


def test_every_shipped_spec_is_a_file_of_its_name():
    names = shipped_specs()
    assert names == sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))
    assert "vgg16" in names
    for name in names:
        assert shipped_spec(name).read_text(encoding="utf-8").strip()


def test_an_unknown_spec_is_answered_with_a_close_match():
    with pytest.raises(SpecError, match=r"no shipped spec is called 'vgg61'\n  Did you mean 'vgg16'"):
        shipped_spec("vgg61")


def test_photographs_are_rgb_and_small_and_attributed():
    attribution = photo("coffee").with_name("ATTRIBUTION.md").read_text(encoding="utf-8")
    assert photos() == ["chelsea", "coffee", "rocket"]
    for name in photos():
        assert f"`{name}.jpg`" in attribution
        assert photo(name).stat().st_size < 200_000
        with Image.open(photo(name)) as image:
            assert image.mode == "RGB"
            assert min(image.size) >= 224


def test_an_unknown_photograph_is_answered_with_a_close_match():
    with pytest.raises(InputError, match=r"no shipped photograph is called 'cofee'\n  Did you mean 'coffee'"):
        photo("cofee")


def test_a_wheel_carries_specs_photographs_and_types(tmp_path: Path):
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    assert (unpacked / "pcgraph" / "py.typed").is_file()
    code = (
        "from pcgraph.files.shipped import *\n"
        "import pcgraph\n"
        "print(pcgraph.__file__, shipped_spec('vgg16'), photo('coffee'), sep='\\n')"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=unpacked, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert [Path(line).relative_to(unpacked).as_posix() for line in found] == [
        "pcgraph/__init__.py",
        "pcgraph/specs/vgg16.yaml",
        "pcgraph/data/photos/coffee.jpg",
    ]
