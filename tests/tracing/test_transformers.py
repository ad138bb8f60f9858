"""Vision models of transformers, which is optional, from configs with random weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import pcgraph as pcg
from pcgraph.errors import ModelError
from pcgraph.learning import Feedback
from pcgraph.spec import Train
from pcgraph.tracing import load_model, suggest_nodes, trace
from pcgraph.training import fit

pytestmark = pytest.mark.heavy

transformers = pytest.importorskip("transformers")

SMALL: dict[str, tuple[int, dict[str, Any]]] = {
    "ResNetForImageClassification": (32, {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}),
    "ConvNextForImageClassification": (32, {"depths": [1, 1], "hidden_sizes": [8, 16], "num_stages": 2}),
    "ViTForImageClassification": (
        32,
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        | {"image_size": 32, "patch_size": 8},
    ),
    "SwinForImageClassification": (
        32,
        {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    ),
    "BitForImageClassification": (
        32,
        {"depths": [1, 1], "hidden_sizes": [16, 32], "embedding_size": 16, "num_groups": 4},
    ),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if "ResNet" in kind else pytest.mark.heavy) for kind in SMALL]
)
def test_step_0_is_the_model(kind: str) -> None:
    side, config = SMALL[kind]
    model = load_model(f"transformers:{kind}", arguments=config)
    nodes = suggest_nodes(trace(model, (3, side, side)))
    assert nodes
    spec = {
        "name": "hugging",
        "backbone": {"input": [3, side, side], "output": "logits"},
        "nodes": nodes,
        "feedback": "to_input",
        "schedule": {"order": "sweep", "steps": 1},
    }
    image = torch.randn(2, 3, side, side)
    run = pcg.Scheduler(pcg.build(pcg.parse_spec(spec), model=model)).run(image, steps=1, record=["output"])
    with torch.no_grad():
        assert torch.equal(run.output[0], model(image).logits)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", SMALL)
def test_a_live_model_runs_and_its_feedback_learns(kind: str, tmp_path: Path) -> None:
    side, config = SMALL[kind]
    model_class = getattr(transformers, kind)
    model = model_class(model_class.config_class(**config)).eval()
    nodes = suggest_nodes(trace(model, (3, side, side)))
    spec = {
        "name": "hugging",
        "backbone": {"input": [3, side, side]},
        "nodes": nodes,
        "feedback": "chain",
        "dynamics": {"rule": "predify", "feedforward": 0.4, "feedback": 0.3, "error": 0.01},
        "schedule": {"steps": 3},
    }
    network = pcg.build(pcg.parse_spec(spec), model=model)
    images = torch.randn(6, 3, side, side)
    run = pcg.Scheduler(network).run(images[:2], record=["output", "values"])
    with torch.no_grad():
        assert torch.equal(run.output[0], model(images[:2]).logits)
    assert all(series[-1].isfinite().all() for series in run.values.values())
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    settings = Train(epochs=1, batch=3)
    fitted = fit(Feedback(network), images, settings, tmp_path / "out", trackers=[], device="cpu")
    assert (fitted.finished, fitted.step) == (True, 2)
    moved = {name for name, weights in network.state_dict().items() if not torch.equal(weights, before[name])}
    assert moved
    assert not any(name.startswith("drive") for name in moved)
    again = pcg.build(tmp_path / "out" / "spec.yaml", model=model)
    assert torch.equal(again(images, steps=2), network(images, steps=2))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match="not installed") as caught:
        load_model("transformers:ResNetForImageClassification")
    assert caught.value.faults[0].hint == "pip install 'pcgraph[transformers]'"


def test_faults() -> None:
    with pytest.raises(
        ModelError, match="transformers has no model 'ResNettForImageClassification'"
    ) as caught:
        load_model("transformers:ResNettForImageClassification")
    assert "'ResNetForImageClassification'" in caught.value.faults[0].hint
    with pytest.raises(ModelError, match="has no weights 'DEFAULT'"):
        load_model("transformers:ResNetForImageClassification", weights="DEFAULT")
