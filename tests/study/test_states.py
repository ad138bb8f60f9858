"""Similarity and energies of a study's arms, against formulas written out for networks built by hand."""

from __future__ import annotations

import csv
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import pcgraph as pcg
from pcgraph.datasets import batches, choice, open_data, subset
from pcgraph.errors import SpecError
from pcgraph.evaluation.conditions import Clean
from pcgraph.report.page.study import study_page
from pcgraph.report.study import arm_rows
from pcgraph.report.study_states import energy_figure, similarity_figure
from pcgraph.study import CellStore, Results, run_cells
from pcgraph.study.comparisons import comparisons
from pcgraph.study.conditions import condition_of
from pcgraph.study.states import energy_csv, similarity_csv
from tests.study.files import planned, study

pytestmark = pytest.mark.heavy
DYNAMICS = {"feedforward": 0.5, "feedback": 0.2, "error": 0.5}
WILD = {"feedforward": 0.5, "feedback": 0.2, "error": 1e30, "gradient": "sum"}
ARMS = {
    "none": {"feedback": "none", "spec": {"dynamics": DYNAMICS}},
    "chain": {"feedback": "chain", "spec": {"dynamics": DYNAMICS}},
    "wild": {"feedback": "chain", "spec": {"dynamics": WILD}},
}
ASKED = {"similarity": {"images": 12}, "energy": None}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("study")
    plan = planned(folder, arms=ARMS, train=None, seeds=2, analyses=ASKED)
    store = CellStore(folder / "cells")
    run_cells(plan.cells, store)
    return Results(plan, store)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def run_by_hand(results: Results, seed: int, images: int, noisy: bool, record: list[str]) -> pcg.Run:
    """Two steps of ``chain`` on the images of the study."""
    (arm,) = [one for one in results.plan.arms.wirings if one.name == "chain"]
    data = open_data("digits", "test", shape=(1, 28, 28))
    places = choice(len(data), images, 0)
    (batch,) = batches(subset(data, places), images)
    scheduler = pcg.Scheduler(pcg.build(arm.spec, seed=seed))
    nothing = torch.empty(0, images)
    clean = Clean(batch.images, batch.labels, batch.indices, nothing, scheduler, data.preprocess, 0)
    pixels = condition_of("gaussian:0.5" if noisy else "clean:0").inputs(clean)
    return scheduler.run(pixels, 2, record=record)


def cka(x: Tensor, y: Tensor) -> float:
    """Kornblith et al. 2019, eq. 3, with the features themselves."""
    x, y = (one.double().flatten(1) - one.double().flatten(1).mean(dim=0) for one in (x, y))
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


@pytest.mark.parametrize("noise", ["clean", "gaussian"])
def test_similarity_is_that_with_the_clean_images_before_the_first_step(results: Results, noise: str) -> None:
    lines = [row for row in read(similarity_csv(results)) if row["noise"] == noise and row["arm"] == "chain"]
    clean = run_by_hand(results, 1, 12, False, ["values"]).values
    seen = run_by_hand(results, 1, 12, noise == "gaussian", ["values"]).values
    own = [row for row in lines if row["seed"] == "1"]
    assert {(row["node"], row["step"]) for row in own} == {(n, s) for n in clean for s in "012"}
    for row in own:
        expected = cka(seen[row["node"]][int(row["step"])], clean[row["node"]][0])
        assert float(row["cka"]) == pytest.approx(expected, rel=6e-3)


def by_distances(x: Tensor, y: Tensor, method: str) -> float:
    """The definition, pair by pair: how alike the squared distances between images are."""
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    first, other = (
        np.array([float(((one[i] - one[j]).double() ** 2).sum()) for i, j in pairs]) for one in (x, y)
    )
    if method == "cosine":
        return float(first @ other / np.linalg.norm(first) / np.linalg.norm(other))
    return float((stats.pearsonr if method == "corr" else stats.spearmanr)(first, other).statistic)


@pytest.mark.parametrize("method", ["corr", "cosine", "spearman"])
def test_dissimilarities_are_compared_where_it_is_asked_for(
    tmp_path: Path, results: Results, method: str
) -> None:
    pytest.importorskip("rsatoolbox")
    asked = {"similarity": {"images": 12, "rdm": method}}
    arms = {"chain": ARMS["chain"]}
    plan = planned(tmp_path, arms=arms, train=None, seeds=[1], analyses=asked)
    run_cells(plan.cells, store := CellStore(tmp_path / "cells"))
    clean = run_by_hand(results, 1, 12, False, ["values"]).values
    seen = run_by_hand(results, 1, 12, True, ["values"]).values
    lines = [row for row in read(similarity_csv(Results(plan, store))) if row["noise"] == "gaussian"]
    assert {(row["node"], row["step"]) for row in lines} == {(n, s) for n in clean for s in "012"}
    for row in lines:
        states = seen[row["node"]][int(row["step"])], clean[row["node"]][0]
        assert float(row["rdm"]) == pytest.approx(by_distances(*states, method), rel=6e-3, abs=1e-3)
    without = {one.cell.key for one in results.plan.analyses if one.kind == "similarity"}
    assert not without & {one.cell.key for one in plan.analyses}
    assert not any(
        "rdm" in one.cell.content for one in results.plan.analyses
    )  # whose names stay as they were
    assert "rdm" not in read(similarity_csv(results))[0]


def test_energies_are_per_unit_of_the_target(results: Results) -> None:
    lines = [row for row in read(energy_csv(results)) if row["arm"] == "chain" and row["seed"] == "0"]
    run = run_by_hand(results, 0, 50, True, ["values", "errors", "energy"])
    own = [row for row in lines if row["noise"] == "gaussian"]
    assert {(row["term"], row["step"]) for row in own} == {
        (term, step) for term in run.errors for step in "012"
    }
    for row in own:
        term, step = row["term"], int(row["step"])
        error, state = run.errors[term][step], run.values[term.split("->")[1]][step]
        assert float(row["error"]) == pytest.approx(float(error.square().mean().sqrt()), rel=6e-3)
        assert float(row["state"]) == pytest.approx(float(state.square().mean().sqrt()), rel=6e-3)
        energy = float(run.energy[term][step].mean()) / error[0].numel()
        assert float(row["energy"]) == pytest.approx(energy, rel=6e-3)


def test_an_arm_without_feedback_stays_and_one_that_runs_away_says_so(results: Results) -> None:
    energies, similarities = read(energy_csv(results)), read(similarity_csv(results))
    assert {(row["term"], row["error"]) for row in energies if row["arm"] == "none"} == {
        (term, "0.0") for term in ("input->e1", "e1->e2", "e2->e3")
    }
    still = [row for row in similarities if row["arm"] == "none" and row["noise"] == "clean"]
    assert {(row["step"], row["cka"]) for row in still} == {(step, "1.0") for step in "012"}
    for lines, kind in ((energies, "energy"), (similarities, "similarity")):
        wild = [row for row in lines if row["arm"] == "wild"]
        assert len(wild) == 4  # two seeds, two conditions
        assert all(row["failed"].startswith(f"{kind}: ") for row in wild)


def test_the_maps_have_what_the_tables_have(results: Results) -> None:
    rows = arm_rows(results, comparisons(results))
    cells = [row for row in read(similarity_csv(results)) if row["node"] == "e3" and row["step"] == "2"]
    means = [
        sum(float(row["cka"]) for row in cells if row["arm"] == arm and row["noise"] == "gaussian") / 2
        for arm in ("none", "chain")
    ]
    figure = similarity_figure(results, rows)
    assert figure is not None
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"none", "chain", "wild"} <= set(texts)
    assert texts.count("failed") == 1  # `wild`
    assert [f"{mean:.2f}" for mean in means] == [one for one in texts if one.startswith(("0.", "1."))]
    shares = [
        float(row["error"]) / float(row["state"])
        for row in read(energy_csv(results))
        if (row["arm"], row["noise"], row["step"]) == ("chain", "clean", "2")
        and row["term"] in ("e1->input", "e2->e1", "e3->e2")
    ]
    figure = energy_figure(results, rows)
    assert figure is not None
    shown = [text.get_text() for axes in figure.axes for text in axes.texts if "." in text.get_text()]
    assert any("above 1: worse than no prediction" in one.get_text() for one in figure.texts)
    page = study_page(results, rows, comparisons(results), {"energy": figure})
    assert "further from the state than zero" in page
    halves = zip(shares[: len(shares) // 2], shares[len(shares) // 2 :], strict=True)
    assert shown == [f"{(one + other) / 2:.2f}" for one, other in halves]


@pytest.mark.parametrize("kind", ["stability", "similarity", "energy"])
def test_more_images_than_there_are(tmp_path: Path, kind: str) -> None:
    planned(tmp_path, train=None, analyses={kind: {"images": 1000}})
    with pytest.raises(SpecError, match=rf"analyses\.{kind}\.images: 1001 of 1000 images"):
        planned(tmp_path, train=None, analyses={kind: {"images": 1001}})


def test_without_rsatoolbox_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == "rsatoolbox" else real(name, *rest)  # noqa: E731
    monkeypatch.setattr("pcgraph.study.plan.find_spec", hidden)
    with pytest.raises(SpecError, match=r"rsatoolbox, which is not installed\n.*pcgraph\[similarity\]"):
        planned(tmp_path, arms=ARMS, train=None, analyses={"similarity": {"rdm": "corr"}})
    planned(tmp_path, arms=ARMS, train=None, analyses={"similarity": {}})


def test_nothing_where_the_study_does_not_ask(tmp_path: Path) -> None:
    plan = planned(tmp_path, arms=ARMS, train=None, seeds=1)
    assert plan.analyses == []
    assert plan.study.analyses.asked == {}


@pytest.mark.parametrize(
    ("analyses", "expected"),
    [
        (["similarty"], "there is no analysis 'similarty'\\n  Did you mean 'similarity'?"),
        ({"similarty": {}}, "unknown field 'similarty'\\n  Did you mean 'similarity'"),
        ({"energy": {"image": 20}}, "unknown field 'image'\\n  Did you mean 'images'"),
        ({"similarity": {"images": 1}}, "analyses.similarity.images: "),
        ({"similarity": {"images": 2, "rdm": "corr"}}, "three images or more"),
        ({"similarity": {"rdm": "pearson"}}, "analyses.similarity.rdm: "),
        ({"similarity": {"rmd": "corr"}}, "Did you mean 'rdm'"),
        ({"energy": {"rdm": "corr"}}, "unknown field 'rdm'"),
        (3, "analyses: "),
    ],
)
def test_what_cannot_be_asked_for(tmp_path: Path, analyses: object, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        study(tmp_path, analyses=analyses)
