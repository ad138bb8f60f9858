"""What stands where a file was expected and would be read for ever, or leads to nothing, is said."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from pcgraph.datasets import open_data, preprocess_for
from pcgraph.errors import InputError, SpecError
from pcgraph.spec import load_spec
from tests.cli.conftest import Cli, cli, small  # noqa: F401

from . import contents
from .conftest import draw_pictures


@pytest.fixture(params=["pipe", "device", "socket"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something that has a name, and would be read for ever."""
    path = tmp_path / "odd"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("odd")
        os.chdir(here)
    return path


def test_a_spec_that_is_no_file(no_file: Path) -> None:
    spec = no_file.rename(no_file.with_suffix(".yaml"))
    with pytest.raises(SpecError, match="a pipe, socket or device, expected a spec file"):
        load_spec(spec)
    own = spec.with_name("own.yaml")
    own.write_text(f"extends: {spec.name}\n")
    with pytest.raises(SpecError, match=r"own\.yaml:1:1 extends: 'odd\.yaml': a pipe, socket or device"):
        load_spec(own)


def test_an_image_that_is_no_file(no_file: Path, cli: Cli, small: Path) -> None:  # noqa: F811
    image = no_file.rename(no_file.with_suffix(".png"))
    outcome = cli("run", "small.yaml", image, "--trust", "--steps", 0)
    assert outcome.status == 2
    assert "a pipe, socket or device, expected a file" in outcome.err
    data = open_data(f"folder:{no_file.parent}", "test", shape=(3, 4, 4), preprocess=preprocess_for(None))
    with pytest.raises(InputError, match="a pipe, socket or device"):
        data.item(0)


USES = {
    "weights": ("check", "weights.yaml", "--trust"),
    "backbone": ("check", "backbone.yaml", "--trust"),
    "mask": ("check", "mask.yaml"),
    "clamp": ("query", "small.yaml", "--trust", "--clamp", "e1=odd.npy"),
    "images": ("run", "small.yaml", "odd.npy", "--trust"),
}
MASKED = "{name: m, nodes: {a: {shape: [4]}, b: {shape: [4]}}, dynamics: {rule: energy}, edges: "


@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize("kind", ["pipe", "loop"])
def test_what_stands_in_the_place_of_a_file_is_said(
    cli: Cli,  # noqa: F811
    small: Path,  # noqa: F811
    tmp_path: Path,
    use: str,
    kind: str,
) -> None:
    for odd in (tmp_path / "odd.npy", tmp_path / "odd.safetensors"):
        if kind == "pipe":
            os.mkfifo(odd)
        else:
            odd.symlink_to(odd.name)
    text = small.read_text()
    (tmp_path / "weights.yaml").write_text(f"{text}weights: odd.safetensors\n")
    (tmp_path / "backbone.yaml").write_text(text.replace("input:", "weights: odd.safetensors, input:"))
    (tmp_path / "mask.yaml").write_text(
        f"{MASKED}[{{source: a, target: b, predictor: [Linear], mask: odd.npy}}]}}"
    )
    outcome = cli(*USES[use])
    assert outcome.status == 2
    said = {"pipe": "a pipe, socket or device, expected", "loop": "a link to nothing, or to itself, expected"}
    assert said[kind] in outcome.err


def test_a_spec_that_is_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("a.yaml")
    with pytest.raises(SpecError, match="a link to nothing, or to itself, expected a spec file"):
        load_spec(tmp_path / "a.yaml")


@pytest.mark.parametrize("name", ["DEFAULT", "IMAGENET1K_V1", "nothing"])
def test_weights_by_name_of_a_model_that_has_none(cli: Cli, small: Path, name: str) -> None:  # noqa: F811
    """`check` says what `run` would say."""
    small.write_text(small.read_text().replace("input:", f"weights: {name}, input:"))
    for command in ("check", "run"):
        outcome = cli(command, "small.yaml", "--trust")
        assert outcome.status == 2
        assert "have weights by name" in outcome.err


COMPANIONS = ("._a.png", ".DS_Store", "Thumbs.db", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/._0.png")
ON_PICTURES = {
    "run": ("run", "small.yaml", "pictures"),
    "train": ("train", "small.yaml", "--data", "folder:pictures", "--epochs", 1, "--tracker", "none"),
    "evaluate": ("evaluate", "small.yaml", "--data", "folder:pictures"),
}


@pytest.mark.parametrize("command", ON_PICTURES)
def test_companions_are_no_images_in_any_command(
    cli: Cli,  # noqa: F811
    small: Path,  # noqa: F811
    tmp_path: Path,
    command: str,
) -> None:
    """The numbers are those of the folder without them."""
    draw_pictures(tmp_path / "pictures")
    words = (*ON_PICTURES[command], "--trust", "-q", "--out")
    assert cli(*words, "plain").status == 0
    for folder in (tmp_path / "pictures", *(tmp_path / "pictures").iterdir()):
        for name in COMPANIONS:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"\0\5\x16\7")
    outcome = cli(*words, "own")
    assert outcome.status == 0, outcome.err
    assert contents(tmp_path / "own") == contents(tmp_path / "plain")
    shutil.rmtree(tmp_path / "pictures")  # what is hidden in it is not ours


@pytest.mark.parametrize("target", ["loop.yaml", "a.yaml", "no\\0name.yaml", "x" * 5000 + ".yaml"])
def test_extends_to_what_cannot_be_read(target: str, tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "a.yaml").symlink_to("b.yaml")
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    spec = tmp_path / "spec.yaml"
    spec.write_text(f'extends: "{target}"\n')
    with pytest.raises(SpecError) as caught:
        load_spec(spec)
    (fault,) = caught.value.faults
    assert fault.path == ("extends",)
    assert fault.where == f"{spec}:1:1"
