"""Runs as trajectories, summaries and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import pcgraph as pcg
from pcgraph.errors import InputError
from pcgraph.report.figures import PowerFormatter, run_figure
from pcgraph.report.summary import class_labels, first_class, held, mean_energy
from pcgraph.report.trajectory import TOP, Trajectory, class_probabilities, follow
from pcgraph.runs.figures import save_figure
from pcgraph.simulation.recording import Run
from tests.goldens.nets import chain

SPEC = {
    "name": "chain",
    "backbone": {"model": "python:tests.goldens.nets:chain", "input": [3, 16, 16]},
    "nodes": {"e1": "1", "e2": "3"},
    "feedback": "chain",
}


def trajectory(name: str, probability: list[list[float]], energy: list[list[float]]) -> Trajectory:
    return Trajectory(name, tuple(range(len(probability))), np.array(probability), np.array(energy))


def test_trajectories_are_the_runs_numbers() -> None:
    network = pcg.build(pcg.parse_spec(SPEC), model=chain())
    images = torch.randn(3, 3, 16, 16)
    ((found, run),) = follow(
        pcg.Scheduler(network), [(["a", "b", "c"], images)], steps=4, record=["values:e1"]
    )
    plain = pcg.Scheduler(network).run(images, steps=4, record=["output", "energy"])
    assert list(run.values) == ["e1"]
    for place, one in enumerate(found):
        assert one.image == "abc"[place]
        assert one.steps == 4
        assert one.energy == pytest.approx(
            torch.stack([torch.stack(s) for s in plain.energy.values()])[:, :, place]
        )
        softmax = torch.stack(plain.output)[:, place].softmax(dim=1)
        for row, index in zip(one.probability, one.classes, strict=True):
            assert row == pytest.approx(softmax[:, index].numpy(), abs=1e-6)
        best = {int(index) for step in softmax for index in step.topk(TOP).indices}
        assert set(one.classes) == best
        top = softmax[2].topk(3)
        assert one.best(2) == [
            (int(index), pytest.approx(float(value), abs=1e-6))
            for value, index in zip(top.values, top.indices, strict=True)
        ]


def test_outputs_that_are_probabilities_stay_what_they_are() -> None:
    run = Run(state=None)  # type: ignore[arg-type]
    run.output = [torch.tensor([[0.2, 0.8]])]
    assert class_probabilities(run) == pytest.approx(np.array([[[0.2, 0.8]]]))
    run.output = [torch.tensor([[-1.0, 1.0]])]
    assert class_probabilities(run)[0, 0, 1] == pytest.approx(1 / (1 + np.exp(-2)))
    for output in ({"out": torch.zeros(1, 3)}, torch.zeros(1, 3, 4, 4), torch.zeros(1, 1)):
        run.output = [output]
        assert class_probabilities(run) is None


def test_summaries_by_hand() -> None:
    one = trajectory("one", [[0.9, 0.4], [0.1, 0.6]], [[4.0, 2.0]])
    two = trajectory("two", [[0.2, 0.1, 0.1], [0.8, 0.9, 0.9]], [[8.0, 4.0, 1.0]])
    probability, kept = first_class([one, two])
    assert probability == pytest.approx([0.85, 0.65, 0.65])
    assert kept == pytest.approx([1.0, 0.5, 0.5])
    assert mean_energy([one, two]) == pytest.approx(np.array([[6.0, 3.0, 1.5]]))
    assert held(one.energy, 1) == pytest.approx(one.energy)


def test_class_labels() -> None:
    assert class_labels(["cat", "crane", "crane"], 3) == ["cat", "crane (1)", "crane (2)"]
    assert class_labels(["cat"], 2) == ["class 0", "class 1"]
    assert class_labels(None, 1) == ["class 0"]


def shown(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_line_of_a_figure_has_its_name() -> None:
    one = trajectory("one", [[0.9, 0.4], [0.1, 0.6]], [[0.0, 2.0], [3.0, 2.0], [0.0, 0.0]])
    figure = run_figure("run", ["a->b", "b->a", "never"], ["cat", "dog"], [one])
    assert sorted(shown(figure)) == [
        "a->b",
        "b->a",
        "cat",
        "dog",
    ]  # an energy that is always zero has no line
    figure = run_figure("run", ["a->b", "b->a", "never"], ["cat", "dog"], [one, one])
    assert sorted(shown(figure)) == ["a->b", "b->a", "mean probability", "still the best class"]


def test_names_of_equal_lines_keep_apart() -> None:
    one = trajectory("one", [[0.5, 0.5]] * 2, [[1.0, 1.0]] * 12)
    figure = run_figure("run", [f"e{index}" for index in range(12)], ["cat", "dog"], [one])
    heights = sorted(text.xy[1] for text in figure.axes[-1].texts)
    assert min(np.diff(heights)) > 0.05
    assert heights[-1] < 1.05


def test_every_text_is_on_the_picture(tmp_path: Path) -> None:
    one = trajectory("one", [[0.5, 0.5]] * 2, [[2.0, 2.01], [2.1, 2.2], [1.9, 2.0]])
    names = ["a->a_very_long_name_of_a_node", "b->a", "a->b"]
    figure = run_figure("run", names, ["cat", "soft-coated wheaten terrier"], [one])
    for suffix, dpi in ((".png", 160), (".svg", 72)):
        save_figure(figure, tmp_path / f"figure{suffix}")
        figure.dpi = dpi
        drawn = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
        width, height = figure.get_size_inches()
        assert 0 < drawn.x0 < drawn.x1 < width
        assert 0 < drawn.y0 < drawn.y1 < height
        first = (tmp_path / f"figure{suffix}").read_bytes()
        save_figure(figure, tmp_path / f"figure{suffix}")
        assert (tmp_path / f"figure{suffix}").read_bytes() == first


@pytest.mark.parametrize(("value", "label"), [(1e-5, "10⁻⁵"), (1, "10⁰"), (2.35e6, "2.35·10⁶")])
def test_powers_are_plain_text(value: float, label: str) -> None:
    assert PowerFormatter()(value) == label


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_have_no_best_class(value: float) -> None:
    model = chain()
    network = pcg.build(pcg.parse_spec(SPEC), model=model)
    assert network.drive is not None
    with torch.no_grad():  # the classifier alone: all states stay finite
        network.drive.model.get_parameter("7.bias")[1] = value
    with pytest.raises(InputError, match="a: the network's output is not finite at step 0"):
        list(follow(pcg.Scheduler(network), [(["a", "b"], torch.randn(2, 3, 16, 16))], steps=2))
