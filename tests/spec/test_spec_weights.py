"""Where weight files are: the same file, whichever folder its spec is read from or written to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pcgraph.files.digest import digest
from pcgraph.files.weights import find_weights
from pcgraph.spec import Spec, load_spec, parse_spec, to_yaml
from pcgraph.spec.dump import pinned, rooted
from pcgraph.spec.weights import Checkpoint, WeightFile, file_of, is_file_reference

# Every text means itself, but for '~' at the beginning.
NAMES = [
    "w.pth",
    "w.pth.tar",
    "epoch=3-step=9.ckpt",
    "with a space.bin",
    "with: colon.safetensors",
    "C:w.npz",
    "$HOME.pth",
    "${USER}/$w.pth",
    "sub/../w.pth",
    "./checkpoint",
    "sub/checkpoint",
    "./~/w.pth",
    "~nobody-of-that-name.pth",
    "./package:a/w.pth",
    "../up.pth",
    "größe \U0001f600.pth",
    "#1.pth",
    "'quoted'.pth",
    "-dash.pth",
    "100%.pth",
]


def network(weights: Any, section: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": "n", "nodes": {"e1": "conv"}, "feedback": "to_input"}
    spec["backbone"] = {"model": "timm:resnet18"}
    (spec if section == "weights" else spec["backbone"])["weights"] = weights
    return spec


def path_of(spec: Spec) -> Path:
    backbone = spec.backbone
    assert backbone is not None
    weights = backbone.weights if spec.weights is None else spec.weights
    assert weights is not None
    return find_weights(file_of(weights), spec.folder)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all these files, each with its own name in it; another one is the home."""
    folder = tmp_path / "$base: a" / "specs"
    for name in ("~", "sub", "${USER}", "package:a"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USER", "somebody")
    for name in NAMES:
        (folder / name).write_text(os.path.normpath(name))
    (tmp_path / "home" / "deep").mkdir(parents=True)
    (tmp_path / "home" / "deep" / "w.pth").write_text("of the home")
    return folder


@pytest.mark.parametrize("section", ["weights", "backbone"])
@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("name", [*NAMES, "~/deep/w.pth"])
def test_the_same_file_from_everywhere(
    base: Path, tmp_path: Path, name: str, section: str, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "of the home" if name.startswith("~/") else os.path.normpath(name)
    spec = parse_spec(network({"file": name} if long else name, section), folder=base)
    assert path_of(spec).read_text() == expected
    (base / "own.yaml").write_text(to_yaml(spec), encoding="utf-8")
    assert path_of(load_spec(base / "own.yaml")).read_text() == expected

    for place in ("specs/deeper", "other", "."):  # through `extends`
        (base.parent / place).mkdir(exist_ok=True)
        lead = os.path.relpath(base / "own.yaml", base.parent / place)
        top = base.parent / place / "top.yaml"
        top.write_text(yaml.safe_dump({"extends": lead, "name": "top"}))
        extended = load_spec(top)
        assert path_of(extended).read_text() == expected
        (base.parent / place / "over.yaml").write_text("extends: top.yaml\n")
        assert path_of(load_spec(base.parent / place / "over.yaml")).read_text() == expected

        run = tmp_path / "runs" / place.replace("/", "-").replace(".", "here")  # and written elsewhere
        run.mkdir(parents=True)
        (run / "spec.yaml").write_text(to_yaml(pinned(rooted(extended))), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        written = load_spec(run / "spec.yaml")
        assert path_of(written).read_text() == expected
        backbone = written.backbone
        assert backbone is not None
        weights = written.weights if section == "weights" else backbone.weights
        assert isinstance(weights, WeightFile)
        assert weights.sha256 == digest(path_of(written))
    monkeypatch.chdir(base)
    assert path_of(load_spec("own.yaml")).read_text() == expected


def test_names_of_a_library_stay(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(network("IMAGENET1K_V1", "backbone")))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yaml").write_text("extends: ../a.yaml\n")
    spec = load_spec(tmp_path / "sub" / "b.yaml")
    assert spec.backbone is not None
    assert spec.backbone.weights == "IMAGENET1K_V1"
    assert pinned(rooted(spec)) == spec


@pytest.mark.parametrize("name", ["DEFAULT", "IMAGENET1K_V2", "a1_in1k", "checkpoint", "a:b"])
def test_names(name: str) -> None:
    assert not is_file_reference(name)
    assert is_file_reference(Checkpoint(file=name))


@pytest.mark.parametrize(
    "name", ["w.pth", "w.pth.tar", "./DEFAULT", "a/b", "~/w", "package:a/b", "package:a"]
)
def test_files(name: str) -> None:
    assert is_file_reference(name)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """A file in a cache is a link to a file without a suffix, and its shards lie beside the link."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "blobs" / "0123abc").write_text("content")
    link = tmp_path / "snapshot" / "model.safetensors"
    link.symlink_to("../blobs/0123abc")
    spec = rooted(parse_spec(network("snapshot/model.safetensors", "backbone"), folder=tmp_path))
    assert spec.backbone is not None
    assert spec.backbone.weights == str(tmp_path.resolve() / "snapshot" / "model.safetensors")


def test_pinned_keeps_the_digest_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("new")
    spec = parse_spec(
        network({"file": "w.pth", "sha256": "0" * 64, "part": "ema"}, "backbone"), folder=tmp_path
    )
    assert pinned(spec) == spec
    gone = parse_spec(network("gone.pth", "weights"), folder=tmp_path)
    assert pinned(gone) == gone
