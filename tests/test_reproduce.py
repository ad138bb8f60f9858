"""The page on reproduction: its specs belong together, and say what its table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pcgraph.spec import Spec, load_spec, parse_spec

pytestmark = pytest.mark.heavy

PAGE = (Path(__file__).parent.parent / "docs" / "reproduce.md").read_text(encoding="utf-8")
VGG16, EFFNET = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
TUNING = re.search(r"<<END\n(.*?)^END$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("text", "nodes", "optimizer"), [(VGG16, 5, "SGD"), (EFFNET, 8, "RMSprop")])
def test_published_settings(text: str, nodes: int, optimizer: str) -> None:
    spec = parse_spec(text)
    assert spec.backbone is not None
    assert spec.backbone.preprocess is not None
    assert spec.train is not None
    assert len(spec.nodes) == nodes
    assert spec.backbone.preprocess.resize == 224
    assert (spec.train.epochs, spec.train.batch) == (50, 64)
    assert spec.train.optimizer.name == optimizer
    assert spec.train.optimizer.arguments == {"lr": 0.001, "weight_decay": 0.0005}


@pytest.mark.parametrize("noise", ["gaussian:0.75", "salt_pepper:0.05"])
def test_the_tuned_specs(tmp_path: Path, noise: str) -> None:
    spec = tuned(tmp_path, noise)
    assert spec.name == f"effnet-{noise.replace(':', '-')}"
    assert spec.tune is not None
    kind, level = noise.split(":")
    assert getattr(spec.tune.noise, kind) == (float(level), float(level))
    assert (spec.tune.epochs, spec.tune.batch, spec.schedule.steps) == (8, 16, 5)
    assert len(spec.nodes) == 8


def tuned(folder: Path, noise: str) -> Spec:
    """What the loop of the page writes, over a trained network's spec."""
    assert TUNING is not None
    trained = folder / "runs" / "effnet"
    trained.mkdir(parents=True)
    (trained / "spec.yaml").write_text(EFFNET)
    kind, level = noise.split(":")
    text = TUNING[1]
    for name, value in {"$name": f"effnet-{kind}-{level}", "$kind": kind, "$level": level}.items():
        text = text.replace(name, value)
    (folder / "tuned.yaml").write_text(text)
    return load_spec(folder / "tuned.yaml")
