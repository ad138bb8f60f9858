"""Figures and tables of an evaluation: what is drawn is what the table holds."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console

from pcgraph.evaluation import Measured, Row, tabulate
from pcgraph.evaluation.corruptions import BENCHMARK
from pcgraph.report.robustness import evaluation_figures
from pcgraph.report.robustness_tables import distance_tables, step_tables


def rows(labelled: bool = True) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    names = ["clean:0", "gaussian:0.5", "gaussian:1", "salt_pepper:0.1", "pgd@1:0.1", "pgd@1:0.2"]
    names += [f"{name}:{severity}" for name in BENCHMARK for severity in (1, 2)]
    measured: Measured = {}
    for name in names:
        right = (torch.rand(4, 40, generator=generator) < 0.7).byte()
        measured[name] = {"index": torch.arange(40), "agree": right}
        if labelled:
            measured[name] |= {"correct": right, "loss": 1 - right.float()}
        if "@" in name:
            measured[name]["success"] = 1 - right
        for node in ("e1", "e2"):
            measured[name][f"distance:{node}"] = torch.rand(4, 40, generator=generator)
    return tabulate("random", [measured], 10)


def lines(figure: Figure, heading: str) -> dict[str, list[float]]:
    (axes,) = [a for a in figure.axes if a.get_title(loc="left") == heading]
    return {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in axes.lines}


def values(found: list[Row], noise: str, level: float, metric: str, name: str = "") -> list[float]:
    return [
        row.value
        for row in found
        if (row.noise, row.level, row.metric, row.name) == (noise, level, metric, name)
    ]


def test_figures_draw_the_rows() -> None:
    found = rows()
    figures = evaluation_figures("a network", found)
    assert list(figures) == ["accuracy", "corruptions", "distances", "attacks"]
    drawn = lines(figures["accuracy"], "gaussian")
    assert list(drawn) == ["clean", "σ 0.5", "σ 1"]
    assert drawn["σ 1"] == values(found, "gaussian", 1, "accuracy")
    drawn = lines(figures["distances"], "gaussian σ 0.5")
    assert drawn["e2"] == values(found, "gaussian", 0.5, "relative_distance", "e2")
    assert drawn["e2"][0] == pytest.approx(1)
    drawn = lines(figures["corruptions"], "mean of the 15 (mCE)")
    assert drawn[" "] == values(found, "corruptions", 0, "mce", "step0")
    drawn = lines(figures["attacks"], "at the attacked step (kind@step)")
    assert drawn["pgd@1"] == [values(found, "pgd@1", eps, "attack_success")[1] for eps in (0.1, 0.2)]


def test_without_labels_agreement_is_drawn() -> None:
    found = rows(labelled=False)
    figures = evaluation_figures("a network", found)
    assert lines(figures["accuracy"], "gaussian")["σ 1"] == values(found, "gaussian", 1, "agreement")
    assert lines(figures["corruptions"], "fog")["2"] == values(found, "fog", 2, "agreement")


def test_tables_show_the_rows() -> None:
    found = rows()
    console = Console(width=200, record=True, file=io.StringIO())
    for table in [*step_tables(found), *distance_tables(found)]:
        console.print(table)
    text = console.export_text()
    for row in found:
        if row.metric == "accuracy" and row.noise in ("gaussian", "pgd@1"):
            assert f"{row.value:.1%} ±" in text
    mean = np.mean([values(found, "fog", severity, "accuracy")[0] for severity in (1, 2)])
    assert f"{mean:.1%}" in next(line for line in text.splitlines() if "fog" in line)
    first, last = (values(found, "gaussian", 1, "distance", "e1")[step] for step in (0, 3))
    assert f"{first:.3f} → {last:.3f}" in text
