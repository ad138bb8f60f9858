"""What is measured, against formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import distance

import pcgraph as pcg
from pcgraph.errors import InputError
from pcgraph.evaluation.measures import correlation_distance, follow, judge


def test_correlation_distance_is_scipys() -> None:
    one, other = torch.randn(6, 3, 5, 7), torch.randn(6, 3, 5, 7)
    other[1] = 0.5 * one[1] + 3  # a distance of 0: scale and offset do not count
    other[2] = -one[2]  # 2
    found = correlation_distance(one, other)
    for image in range(6):
        expected = distance.correlation(one[image].ravel().double(), other[image].ravel().double())
        assert found[image] == pytest.approx(expected, abs=1e-12)
        assert found[image] == pytest.approx(
            1 - np.corrcoef(one[image].ravel(), other[image].ravel())[0, 1], abs=1e-6
        )
    assert found[1] == pytest.approx(0, abs=1e-6)
    assert found[2] == pytest.approx(2)


def test_correlation_distance_of_constant_states_is_not_a_number() -> None:
    assert correlation_distance(torch.ones(1, 4), torch.randn(1, 4)).isnan().all()


def test_judge_is_what_the_runs_say(network: pcg.PCNetwork) -> None:
    scheduler = pcg.Scheduler(network)
    images = torch.randn(7, 3, 16, 16)
    noisy = images + 9 * torch.randn(7, 3, 16, 16)
    labels = torch.arange(7)
    clean = follow(scheduler, images, 3, True, 0)
    found = judge(follow(scheduler, noisy, 3, True, 0), clean, labels)
    assert set(found) == {"agree", "correct", "loss", "distance:e1", "distance:e2", "distance:e3"}
    runs = [scheduler.run(x, 3, record=["output", "values"]) for x in (images, noisy)]
    for step in range(4):
        for image in range(7):
            answer = int(runs[1].output[step][image].argmax())
            assert found["correct"][step, image] == (answer == image)
            assert found["agree"][step, image] == (answer == int(runs[0].output[0][image].argmax()))
            probability = runs[1].output[step][image].softmax(0)[image].item()
            assert found["loss"][step, image] == pytest.approx(-math.log(probability), rel=1e-5)
            for node in ("e1", "e2", "e3"):
                pair = [run.values[node][step][image].ravel().double() for run in runs]
                assert found[f"distance:{node}"][step, image] == pytest.approx(
                    distance.correlation(*pair), rel=1e-5, abs=1e-7
                )
    assert 0 < found["agree"].sum() < found["agree"].numel()


def test_without_labels_only_agreement_is_measured(network: pcg.PCNetwork) -> None:
    run = follow(pcg.Scheduler(network), torch.randn(2, 3, 16, 16), 1, False, 0)
    found = judge(run, run, torch.tensor([-1, -1]))
    assert set(found) == {"agree"}
    assert found["agree"][0].tolist() == [1, 1]


def test_a_batch_that_stands_still_keeps_its_last_output() -> None:
    spec = pcg.parse_spec(
        """
        name: still
        backbone: {input: [3, 16, 16]}
        nodes: {e1: "1", e2: "3"}
        dynamics: {rule: predify, feedforward: 0.5, feedback: 0.3, error: 0.05}
        schedule: {steps: 5, tolerance: 0.5}
        """
    )
    from tests.goldens.nets import chain

    run = follow(pcg.Scheduler(pcg.build(spec, model=chain())), torch.randn(2, 3, 16, 16), 5, True, 0)
    assert len(run.logits) == 6
    assert all(len(series) == 6 for series in run.values.values())


def test_networks_that_give_no_class_scores_are_refused() -> None:
    spec = pcg.parse_spec(
        """
        name: free
        nodes: {a: {shape: [4]}, b: {shape: [3]}}
        edges: [{source: a, target: b, predictor: [Linear]}]
        dynamics: {rule: energy, rate: 0.1}
        """
    )
    with pytest.raises(InputError, match="has no output to evaluate"):
        follow(pcg.Scheduler(pcg.build(spec)), torch.randn(2, 4), 1, False, 0)
