"""Predictor weights: in a package, in half precision, moved with the spec that names them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import pcgraph as pcg
from pcgraph.spec.dump import rooted

SPEC = {
    "name": "small",
    "nodes": {"image": {"shape": [4]}, "hidden": {"shape": [3]}},
    "edges": [{"source": "image", "target": "hidden"}],
    "feedback": "chain",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that nobody imports, with weights in half precision."""
    folder = tmp_path / "packaged_feedback"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('imported')\n")
    pcg.build(pcg.parse_spec(SPEC), seed=5).save_weights(folder / "full.safetensors")
    full = load_file(folder / "full.safetensors")
    save_file({name: value.half() for name, value in full.items()}, folder / "half.safetensors")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def spec(file: str) -> pcg.Spec:
    return pcg.parse_spec({**SPEC, "weights": f"package:packaged_feedback/{file}"})


def test_weights_come_from_a_package_in_the_precision_of_the_network(package: Path) -> None:
    network = pcg.build(spec("half.safetensors"), seed=1)
    assert "packaged_feedback" not in sys.modules
    assert network.feedback_trained
    expected = load_file(package / "full.safetensors")
    for name, value in network.predictors.state_dict().items():
        assert value.dtype == torch.float32
        # half precision keeps 11 bits: a relative error of at most 2**-11
        torch.testing.assert_close(value, expected[name], rtol=2**-11, atol=1e-7)
        if not name.endswith("bias"):  # biases begin at zero, which is exact
            assert not torch.equal(value, expected[name])


def test_a_missing_file_of_a_package_is_a_fault_of_the_spec(package: Path) -> None:
    with pytest.raises(pcg.ModelError, match="no file 'hlaf") as caught:
        pcg.build(spec("hlaf.safetensors"))
    assert caught.value.faults[0].path == ("weights",)
    assert "'half.safetensors'" in caught.value.faults[0].hint
    with pytest.raises(pcg.ModelError, match="'no_such_thing' is not installed"):
        pcg.build(pcg.parse_spec({**SPEC, "weights": "package:no_such_thing/w.safetensors"}))


def test_references_to_packages_hold_in_every_folder(package: Path, tmp_path: Path) -> None:
    assert rooted(spec("half.safetensors")).weights == "package:packaged_feedback/half.safetensors"
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**SPEC, "weights": "package:p/w.safetensors"}))
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "own.yaml").write_text("extends: ../base.yaml\nname: own\n")
    assert pcg.load_spec(tmp_path / "inside" / "own.yaml").weights == "package:p/w.safetensors"
