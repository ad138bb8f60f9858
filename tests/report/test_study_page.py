"""The page and the figures of a study, against numbers worked out from its answers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

import pcgraph as pcg
from pcgraph.display.text import shortened
from pcgraph.report.arcs import ArcDiagram, Frame, Stroke
from pcgraph.report.figures import FADED, INK
from pcgraph.report.page import report_page
from pcgraph.report.page.charts import svg
from pcgraph.report.page.study import study_page
from pcgraph.report.power import power_text, too_few
from pcgraph.report.similarity_figure import KEYS, similarity_figure
from pcgraph.report.study import ArmRow, arm_rows
from pcgraph.report.study_figures import study_figures
from pcgraph.report.study_maps import radius_colour
from pcgraph.spec import Edge
from pcgraph.study import Results
from pcgraph.study.comparisons import Comparison, comparisons
from tests.report.test_page import Page
from tests.study.files import planned
from tests.study.pretended import pretended

NASTY = "<b>$h$ & \"q\" ${frac <script>alert('1')"
LONG = "_a-wiring-whose-name-is-far-too-long-for-the-room-that-a-figure-has"
Told = tuple[Results, list[ArmRow], list[Comparison], dict[str, Figure]]


def told(folder: Path, failed: dict[str, int] | None = None, **changes: object) -> Told:
    results = pretended(planned(folder, study=NASTY, **changes), folder, failed=failed)
    compared = comparisons(results)
    rows = arm_rows(results, compared)
    return results, rows, compared, study_figures(results, rows)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Told:
    arms = {
        "none": "none",
        "chain": "chain",
        "dense": "dense",
        LONG: ["chain", {"source": "e3", "target": "input"}],
        "slow": ["chain", {"source": "e3", "target": "e2", "delay": 3}],
        "random": {"random": {"edges": 2, "draws": 3}},
    }
    return told(
        tmp_path_factory.mktemp("many"),
        failed={"random-1": 1},
        arms=arms,
        lesions={"of": "chain", "each": "edge"},
        grid={"arm": "slow", "delay": [1, 2]},
        reference="chain",
        contrasts=[["dense", "none"]],
        analyses=["stability"],
    )


def share(results: Results, arm: str, seed: int) -> float:
    """Right answers to the noisy images at the last step, of one seed."""
    found = [
        row.accuracy
        for row in results.rows()
        if (row.arm, row.seed, row.noise, row.step) == (arm, seed, "gaussian", 2)
    ]
    return float(np.mean(found))


def texts(axes: Axes) -> list[str]:
    return [one.get_text() for one in axes.texts]


def test_everything_is_on_the_page_and_nothing_comes_from_elsewhere(many: Told) -> None:
    results, rows, compared, figures = many
    text = study_page(results, rows, compared, figures)
    page = Page(text)
    assert page.tags.count("script") == 0
    assert all(load.startswith(("data:", "#")) for load in page.loads), page.loads
    assert "url(http" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {load[1:] for load in page.loads if load.startswith("#")} <= set(page.ids)
    assert "<script" not in text
    assert any(NASTY in one for one in page.texts)
    for heading in ("Question and design", "Arms", "Differences", "Which edge mattered", "Does it settle?"):
        assert heading in page.texts
    for row in rows:
        assert row.arm in page.texts
    for word in ("gaussian 0.5", "Planned contrasts", "dense less none", "failed", "random-1", "input"):
        assert word in page.text
    one = next(one for one in compared if one.first == "dense")
    assert f"{100 * one.interval.low:+.1f} to {100 * one.interval.high:+.1f}" in page.texts
    assert power_text(compared) in page.texts
    assert too_few(compared) in page.texts
    wild = [row.arm for at, row in enumerate(rows) if at % 5 == 4 or (at >= 3 and at % 7 != 6)]
    assert f"not settled: {', '.join(wild)}." in page.text
    widths = [float(one) for one in re.findall(r'<svg [^>]*?width="([\d.]+)"[^>]*role="img"', text)]
    wanted = [
        96 * figures[name].get_size_inches()[0]
        for name in ("forest", "steps", "lesions", "cost", "stability")
    ]
    assert widths == pytest.approx(wanted, rel=1e-3)  # 96 pixels of a page are an inch
    assert text == study_page(results, rows, compared, study_figures(results, rows))


def test_the_forest_has_a_row_for_every_arm(many: Told) -> None:
    results, rows, compared, figures = many
    names, _, content, notes = figures["forest"].axes
    assert texts(names) == [shortened(row.arm, 40) for row in rows]
    said = dict(zip([row.arm for row in rows], texts(notes), strict=True))
    assert said["chain"] == "reference"
    assert said["random-1"] == "failed with 1 of 2 seeds"
    assert len(compared) == len(rows) - 2 + 1  # neither the reference nor what failed; a contrast
    places = {row.arm: names.texts[at].get_position()[1] for at, row in enumerate(rows)}
    shown = [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in content.lines
        if line.get_marker() == "o"
    ]
    expected = []
    for arm in said.keys() - {"chain", "random-1"}:
        value = np.mean([share(results, arm, seed) - share(results, "chain", seed) for seed in (0, 1)])
        assert said[arm].startswith(f"{100 * value:+.1f}")
        expected.append((float(value), places[arm]))
    np.testing.assert_allclose(sorted(shown), sorted(expected), atol=1e-12)
    reach = content.get_xlim()[1]
    assert all(abs(x) <= reach for x, _ in shown)


def test_of_many_arms_the_reference_the_best_and_the_worst_are_told_apart(many: Told) -> None:
    results, rows, _, figures = many
    *panels, legend = figures["steps"].axes
    assert len(panels) == 2
    uncut = [row.arm for row in rows if " without " not in row.arm and row.arm != "random-1"]
    accuracy = {arm: np.mean([share(results, arm, seed) for seed in (0, 1)]) for arm in uncut}
    order = sorted((arm for arm in uncut if arm != "chain"), key=lambda arm: -accuracy[arm])
    assert len(order) == 8
    named = ["chain", *order[:4], *order[-2:]]
    assert texts(legend) == [*(shortened(arm, 34) for arm in named), "(2 others)"]
    for axes in panels:
        assert len(axes.lines) == len(uncut)
        colours = [line.get_color() for line in axes.lines]
        assert colours.count(INK) == 1
        assert colours.count(FADED) == 2
    (reference,) = (line for line in panels[1].lines if line.get_color() == INK)
    assert reference.get_ydata()[-1] == pytest.approx(accuracy["chain"])


def test_lesions_are_worth_what_the_whole_arm_loses(many: Told) -> None:
    results, _, _, figures = many
    graph, bars = figures["lesions"].axes
    terms = [label.get_text() for label in bars.get_yticklabels()][::-1]
    assert terms == ["e1->input", "e2->e1", "e3->e2"]
    lost = {
        term: np.mean(
            [share(results, "chain", s) - share(results, f"chain without {term}", s) for s in (0, 1)]
        )
        for term in terms
    }
    assert [bar.get_width() for bar in bars.patches][::-1] == pytest.approx(list(lost.values()))
    arcs = [patch for patch in graph.patches if isinstance(patch, FancyArrowPatch)]
    widths = sorted(arc.get_linewidth() for arc in arcs)
    sizes = sorted(abs(value) for value in lost.values())
    assert len(widths) == 3
    slopes = np.diff(widths) / np.diff(sizes)  # as wide as their effect
    assert slopes[0] == pytest.approx(slopes[1])


def test_cost_and_stability_are_those_of_the_table(many: Told) -> None:
    _, rows, _, figures = many
    points = {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in figures["cost"].axes[0].lines
        if line.get_marker() == "o"
    }
    compared = [row for row in rows if row.compared is not None and " without " not in row.arm]
    assert points == {(row.cost, row.compared.difference.value) for row in compared if row.compared}
    content, notes = figures["stability"].axes[2:]
    assert texts(content)[:4] == ["0.900", "0.900", "0.940", "0.950"]  # none: alike with all seeds
    assert texts(content)[12:14] == ["?", "?"]
    assert texts(notes)[4] == "6 of 16 settle; cycle 10"


def test_red_and_blue_meet_at_one() -> None:
    for radius in (0.2, 0.999):
        red, _, blue = to_rgb(radius_colour(radius))
        assert blue > red
    for radius in (1.001, 40.0):
        red, _, blue = to_rgb(radius_colour(radius))
        assert red > blue
    assert len({to_rgb(radius_colour(math.nan))}) == 1


@pytest.mark.heavy
@pytest.mark.parametrize("failed", ["none", "dense"])
def test_one_seed_one_condition_and_failures(tmp_path: Path, failed: str) -> None:
    """Of the reference, everything; of another arm, that arm."""
    evaluate = {"data": "digits", "limit": 40, "steps": 2}
    arms = {"none": "none", "dense": "dense"}
    results, rows, compared, figures = told(
        tmp_path,
        failed={failed: 5},
        seeds=[5],
        evaluate=evaluate,
        arms=arms,
        lesions={"of": "dense", "each": "edge"},
    )
    page = Page(study_page(results, rows, compared, figures))
    assert "One seed: nothing here says" in page.text
    assert f"Failed with some seed, and not compared: {failed}" in page.text
    said = texts(figures["forest"].axes[3])
    assert "failed with 1 of 1 seeds" in said if failed == "dense" else "reference failed" in said
    assert len(figures["steps"].axes) == 2


def test_names_are_drawn_as_they_are() -> None:
    names = ["_a_b", "__", "x" * 40]
    nodes = {name: {"shape": [3]} for name in names}
    edges = [
        {"source": a, "target": b, "predictor": ["Linear"]} for a, b in zip(names[1:], names, strict=False)
    ]
    spec = pcg.parse_spec({"name": "n", "nodes": nodes, "edges": edges, "dynamics": {"rule": "energy"}})
    figure = Figure()
    axes = figure.subplots()
    diagram = ArcDiagram(pcg.build(spec).graph)
    own = [Edge(source=names[2], target=names[0], delay=4), Edge(source=names[0], target=names[0])]
    diagram.draw(axes, Frame(0, 1, 0.4, 0.4, 0.2), [(one, Stroke()) for one in own], names=True)
    drawn = Page(svg(figure, NASTY)).texts
    assert {"_a_b", "__", "xxxxxxx…xxxxxx", "4"} <= {one.strip() for one in drawn}


def test_long_names_keep_both_ends() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abc…fg"
    assert len(shortened("x" * 99, 40)) == 40


def test_similarity_is_shown_node_by_step() -> None:
    """Against step 0, against the clean images, and against the first network."""
    states = [(n, c, "e1", s) for n in ("one", "two") for c in ("clean", "gaussian:1") for s in (0, 1)]
    rows = [
        {
            **dict(zip(KEYS, a, strict=True)),
            **{f"other_{key}": value for key, value in zip(KEYS, b, strict=True)},
            "cka": (10 * i + j) / 100,
        }
        for i, a in enumerate(states)
        for j, b in enumerate(states)
        if i < j
    ]
    figure = similarity_figure(rows)
    assert figure is not None
    shown = {axes.get_title(loc="left"): texts(axes) for axes in figure.axes}
    assert shown == {
        "one, clean: with step 0": ["1.00", "0.01"],
        "one, gaussian:1: with clean": ["0.02", "0.13"],
        "two, clean: with step 0": ["1.00", "0.45"],
        "two, clean: with one": ["0.04", "0.15"],
        "two, gaussian:1: with clean": ["0.46", "0.57"],
        "two, gaussian:1: with one": ["0.26", "0.37"],
    }
    assert similarity_figure([]) is None


def test_analyses_are_on_the_page_of_their_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"kind": "analyse"}')
    head = "network,condition,node,step,other_network,other_condition,other_node,other_step,cka"
    (tmp_path / "similarity.csv").write_text(f"{head}\n<b>n$,clean,e1,0,<b>n$,clean,e1,1,0.25\n")
    (tmp_path / "cost.csv").write_text("network,multiply_adds\n<b>n$,123\n")
    text = report_page([tmp_path])
    page = Page(text)
    assert {"Analyses", "Cost", "123", "0.25"} <= {one.strip() for one in page.texts}
    assert any("<b>n$, clean: with step 0" in one for one in page.texts)
    assert "b" not in page.tags
    (tmp_path / "similarity.csv").write_text("network,cka\na,1\n")
    with pytest.raises(pcg.InputError, match="other_node"):
        report_page([tmp_path])


@pytest.mark.heavy
def test_noise_is_spelt_as_in_the_file_everywhere(tmp_path: Path) -> None:
    evaluate = {
        "data": "digits",
        "limit": 40,
        "noise": {"salt_pepper": [0.2]},
        "unseen": {"low_frequency": [0.5], "low_contrast": [0.8]},
        "steps": 2,
        "step": "last",
    }
    arms = {"none": "none", "chain": "chain"}
    results, rows, compared, figures = told(tmp_path, arms=arms, evaluate=evaluate)
    text = Page(study_page(results, rows, compared, figures)).text
    titles = [axes.get_title(loc="left") for axes in figures["steps"].axes]
    for name in ("salt_pepper 0.2", "low_frequency 0.5", "low_contrast 0.8"):
        assert name in titles
        assert name in text
    for name in ("salt pepper", "low frequency", "low contrast"):
        assert name not in text
        assert not any(name in title for title in titles)


@pytest.mark.heavy
def test_agreement_is_called_that(tmp_path: Path) -> None:
    evaluate = {"data": "photos", "noise": {"gaussian": [0.5]}, "steps": 2, "right": "agreement"}
    arms = {"none": "none", "chain": "chain"}
    changes = {"arms": arms, "evaluate": evaluate, "reference": "none", "lesions": {"of": "chain"}}
    results, rows, compared, figures = told(tmp_path, **changes)
    text = Page(study_page(results, rows, compared, figures)).text
    assert "agreement with it" in text
    said = [one.get_text() for figure in figures.values() for one in figure.texts]
    assert "agreement over the steps, mean over seeds" in said
    assert not [one for one in said if "accuracy" in one]
    assert "accuracy" not in text
