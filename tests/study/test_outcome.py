"""What a study prints and writes, against numbers worked out from its cells."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load

import pcgraph as pcg
from pcgraph.cli import app
from pcgraph.report.study import arm_rows, arms_csv, comparisons_csv
from pcgraph.report.study_figures import study_figures
from pcgraph.study import CellStore, Results, run_cells
from pcgraph.study.comparisons import comparisons
from pcgraph.study.results import study_csv
from pcgraph.study.statistics import difference
from pcgraph.study.work import MEASURED
from tests.study.files import EVALUATE, planned, written


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("study")
    lesions = {"of": "chain", "each": "edge"}
    changes = {"lesions": lesions, "reference": "chain", "contrasts": [["dense", "none"]]}
    plan = planned(folder, **changes, evaluate={**EVALUATE, "step": "held_out"})
    store = CellStore(folder / "cells")
    run_cells(plan.cells, store)
    return Results(plan, store)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_number_is_what_the_cells_hold(results: Results) -> None:
    rows = read(study_csv(results))
    arms = ["none", "chain", "dense", *(f"chain without {e}" for e in ("e1->input", "e2->e1", "e3->e2"))]
    assert list(dict.fromkeys(row["arm"] for row in rows)) == arms
    assert len(rows) == len(arms) * 2 * 2 * 2 * 3  # seeds, parts, conditions, steps
    some = [one for one in results.plan.measures if one.arm == "dense" and one.part == "test"]
    for one in some:
        tensors = load(results.store.read(one.cell.key)[MEASURED])
        right = tensors["answers"] == tensors["labels"]
        found = [
            row for row in rows if (row["arm"], row["part"], row["seed"]) == ("dense", "test", str(one.seed))
        ]
        noise, level = one.condition.split(":")
        found = [row for row in found if row["noise"] == noise and float(row["level"]) == float(level)]
        assert [int(row["right"]) for row in found] == right.sum(dim=1).tolist()
        assert [float(row["accuracy"]) for row in found] == pytest.approx(right.float().mean(dim=1).tolist())


def test_the_step_is_chosen_on_held_out_images_alone(results: Results) -> None:
    rows = [row for row in read(study_csv(results)) if row["arm"] == "chain" and row["part"] == "held_out"]
    for seed, step in enumerate(results.steps("chain")):
        means = [
            np.mean(
                [float(row["accuracy"]) for row in rows if (row["seed"], row["step"]) == (str(seed), str(at))]
            )
            for at in range(3)
        ]
        assert step == int(np.argmax(means))


def test_comparisons_are_paired_and_the_family_is_all_of_them(results: Results) -> None:
    found = comparisons(results)
    assert [(one.first, one.second) for one in found][-1] == ("dense", "none")
    assert len(found) == 6
    noisy = results.right("dense", "gaussian:0.5"), results.right("chain", "gaussian:0.5")
    alone = difference(noisy[0], noisy[1])
    one = next(one for one in found if (one.first, one.second) == ("dense", "chain"))
    assert one.difference == alone
    assert one.interval == alone.interval(comparisons=6)
    assert one.p >= alone.p_value()
    lines = read(comparisons_csv(found))
    assert float(lines[1]["difference"]) == pytest.approx(noisy[0].mean() - noisy[1].mean())


def test_a_line_an_arm(results: Results) -> None:
    rows = arm_rows(results, comparisons(results))
    lines = {row["arm"]: row for row in read(arms_csv(rows))}
    assert lines["chain"]["difference"] == ""
    assert lines["chain without e2->e1"]["edges"] == "e1->input e3->e2"
    network = pcg.build(next(one.spec for one in results.plan.arms.wirings if one.name == "chain"))
    sizes = {name: sum(p.numel() for p in one.parameters()) for name, one in network.predictors.items()}
    assert int(lines["chain"]["parameters"]) == sum(sizes.values())
    assert 0 < int(lines["none"]["memory"]) < int(lines["chain"]["memory"]) < int(lines["dense"]["memory"])
    assert int(lines["chain without e2->e1"]["parameters"]) == sizes["e1->input"] + sizes["e3->e2"]
    right = results.right("none", "clean:0")
    assert float(lines["none"]["clean:0"]) == pytest.approx(right.mean())


def test_the_figures_have_all_arms(results: Results) -> None:
    figures = study_figures(results, arm_rows(results, comparisons(results)))
    forest = [label.get_text() for label in figures["forest"].axes[0].texts]
    assert forest == [one.name for one in results.plan.arms.wirings]
    assert [len(axes.lines) for axes in figures["steps"].axes] == [3, 3, 3]  # two panels, and the legend


@pytest.mark.heavy
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned, run, gone on with: and the second time nothing is computed."""
    file = written(tmp_path, seeds=1)

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            app(["study", str(file), "--out", str(tmp_path / "out"), *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    plan = json.loads(run("--plan", "--json"))
    assert plan["cells"]["train"] == {"all": 1, "done": 0}
    assert not (tmp_path / "out").exists()
    first = json.loads(run("--workers", "1", "--json"))
    assert [arm["arm"] for arm in first["arms"]] == ["none", "chain", "dense"]
    assert "One seed" in run("--workers", "1")
    assert all(one["all"] == one["done"] for one in json.loads(run("--plan", "--json"))["cells"].values())
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["kind"] == "study"
    files = {"study.csv", "arms.csv", "comparisons.csv", "forest.png", "steps.svg", "cost.pdf"}
    assert files <= set(record["files"])
    page = tmp_path / "out" / "report.html"
    assert "Question and design" in page.read_text()
    page.unlink()
    assert str(page) in run("--workers", "1")  # written again, from the cells
    assert page.is_file()
    with pytest.raises(SystemExit) as ended:
        app(["report", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "is the folder of a study" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        app(["study", str(written(tmp_path)), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
