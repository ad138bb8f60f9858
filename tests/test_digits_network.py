"""The digits network that is shipped: what its plain part and its feedback can do."""

from __future__ import annotations

import pytest
import torch

import pcgraph as pcg
from pcgraph.datasets import batches, noisy, open_data, preprocess_for, subset
from pcgraph.datasets.noise import Noise
from pcgraph.files.shipped import shipped_spec


def accuracy(sigma: float, count: int, steps: int) -> torch.Tensor:
    """Accuracy at each step on the first test images, which were never trained on."""
    network = pcg.build(shipped_spec("digits"))
    assert network.feedback_trained
    preprocess = preprocess_for(network.spec.backbone)
    data = subset(open_data("digits", "test", shape=(1, 28, 28), preprocess=preprocess), range(count))
    (batch,) = batches(noisy(data, Noise("gaussian", sigma)), count)
    outputs = pcg.Scheduler(network).run(batch.images, steps).output
    return torch.stack([(output.argmax(1) == batch.labels).float().mean() for output in outputs])


def test_the_plain_network_knows_digits() -> None:
    assert accuracy(0.0, 1000, 0)[0] >= 0.97


@pytest.mark.heavy
@pytest.mark.parametrize(("sigma", "gain"), [(0.5, 0.15), (1.0, 0.25)])
def test_the_feedback_brings_back_what_noise_took_and_it_lasts(sigma: float, gain: float) -> None:
    """At step 4, the last that it was tuned for, and at step 8, after twice as many."""
    by_step = accuracy(sigma, 400, 8)
    assert by_step[[4, 8]].min() > by_step[0] + gain


@pytest.mark.heavy
def test_the_feedback_costs_clean_images_little() -> None:
    by_step = accuracy(0.0, 1000, 4)
    assert by_step.min() >= by_step[0] - 0.01


def test_an_unknown_model_of_ours_is_named() -> None:
    spec = "{name: a, backbone: {model: 'pcgraph:digit_cnn', input: [1, 28, 28]}, nodes: {e1: relu1}}"
    with pytest.raises(pcg.ModelError, match=r"pcgraph has no model 'digit_cnn'(.|\n)*'digits_cnn'"):
        pcg.build(pcg.parse_spec(spec))
