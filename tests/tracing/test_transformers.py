"""Vision models of transformers, which is optional, from configs with random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pcgraph as pcg
from pcgraph.errors import ModelError
from pcgraph.tracing import load_model, suggest_nodes, trace

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
}


@pytest.mark.parametrize("kind", SMALL)
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


def test_faults() -> None:
    with pytest.raises(
        ModelError, match="transformers has no model 'ResNettForImageClassification'"
    ) as caught:
        load_model("transformers:ResNettForImageClassification")
    assert "'ResNetForImageClassification'" in caught.value.faults[0].hint
    with pytest.raises(ModelError, match="has no weights 'DEFAULT'"):
        load_model("transformers:ResNetForImageClassification", weights="DEFAULT")
