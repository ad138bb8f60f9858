"""The page on reproduction counts right: plain networks cost what torchvision says that they cost."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torchvision

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "cost.py"


@pytest.fixture(scope="module")
def cost() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cost", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cost"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("spec", "weights"),
    [("vgg16", "VGG16_Weights"), ("efficientnet_b0", "EfficientNet_B0_Weights")],
)
def test_operations_of_plain_networks(cost: ModuleType, spec: str, weights: str) -> None:
    published = getattr(torchvision.models, weights).DEFAULT.meta["_ops"]  # 10^9 multiply-adds
    count = cost.counts(spec, (1,))
    assert count.plain / 1e9 == pytest.approx(published, rel=0.02)
    assert count.through[1] > count.plain + count.step


def test_training_of_the_feedback_by_hand(cost: ModuleType) -> None:
    feedback = 64 * 3 * 25 * 224**2 + 128 * 64 * 100 * 112**2
    feedback += 256 * 128 * 196 * 56**2 + 512 * 256 * 196 * 28**2 + 512 * 512 * 196 * 14**2
    head = (512 * 7 * 7 + 4096) * 4096 + 4096 * 1000
    count = cost.counts("vgg16", ())
    # the convolutions of the plain network, every predictor, and the gradient of its weights
    assert count.feedback == count.plain - head + 2 * feedback


def test_hours(cost: ModuleType) -> None:
    job = cost.Job("", images=10**6, operations=10**9, read=0)
    # 2 * 10^15 operations, at half of 156 * 10^12 a second
    assert cost.hours(job, "A100", 1, 0.5) * 3600 == pytest.approx(2000 / 78)
    assert cost.hours(job, "A100", 8, 0.5) * 3600 == pytest.approx(2000 / 78 / 8 / 0.95)
