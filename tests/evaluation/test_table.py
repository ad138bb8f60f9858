"""The tidy table, from a few images that one can count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pcgraph.errors import InputError
from pcgraph.evaluation.statistics import ALEXNET
from pcgraph.evaluation.store import Measured
from pcgraph.evaluation.table import Row, read_table, tabulate, write_table


def measured(**conditions: dict[str, list[list[float]]]) -> Measured:
    found: Measured = {}
    for name, rows in conditions.items():
        found[name] = {what: torch.tensor(values) for what, values in rows.items()}
        found[name]["index"] = torch.arange(len(next(iter(rows.values()))[0]))
    return found


CLEAN = {
    "correct": [[1, 1, 1, 0], [1, 1, 0, 0]],
    "agree": [[1, 1, 1, 1], [1, 1, 0, 1]],
    "loss": [[1.0, 2, 3, 4]] * 2,
}
NOISY = {
    "correct": [[1, 0, 0, 0], [1, 1, 0, 0]],
    "agree": [[1, 0, 1, 0], [1, 1, 1, 0]],
    "loss": [[2.0, 2, 3, 4]] * 2,
}


def value(rows: list[Row], noise: str, metric: str, step: int, name: str = "") -> Row:
    (found,) = [r for r in rows if (r.noise, r.metric, r.step, r.name) == (noise, metric, step, name)]
    return found


def test_means_gains_and_distances() -> None:
    noisy = {**NOISY, "distance:e1": [[0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4]]}
    rows = tabulate("d", [measured(**{"clean:0": CLEAN, "gaussian:0.5": noisy})], 10)
    assert value(rows, "clean", "accuracy", 0).value == 0.75
    assert value(rows, "gaussian", "accuracy", 1).value == 0.5
    gain = value(rows, "gaussian", "gain", 1)
    assert (gain.value, gain.n, gain.level) == (0.25, 4, 0.5)
    assert gain.low == 0.0  # no image gets worse, so no resample does
    assert value(rows, "gaussian", "gain", 0).high == 0
    assert value(rows, "gaussian", "agreement", 1).value == 0.75
    assert value(rows, "clean", "loss", 1).value == 2.5
    assert value(rows, "gaussian", "distance", 1, "e1").value == pytest.approx(0.25)
    assert value(rows, "gaussian", "relative_distance", 1, "e1").value == pytest.approx(0.5)


def test_attacks_count_where_the_attacked_step_was_right_before() -> None:
    attack = {**NOISY, "success": [[0, 1, 1, 1], [0, 0, 1, 1]]}
    rows = tabulate("d", [measured(**{"clean:0": CLEAN, "pgd@1:0.1": attack})], 10)
    found = value(rows, "pgd@1", "attack_success", 0)
    assert (found.value, found.n) == (0.5, 2)  # at step 1 the clean images 0 and 1 are right
    rows = tabulate("d", [measured(**{"clean:0": CLEAN, "pgd@0:0.1": attack})], 10)
    found = value(rows, "pgd@0", "attack_success", 1)
    assert (found.value, found.n) == (pytest.approx(1 / 3), 3)


def test_corruption_errors_relative_to_step_0_and_alexnet() -> None:
    conditions = {f"{name}:{severity}": NOISY for name in ALEXNET for severity in range(1, 6)}
    rows = tabulate("d", [measured(**{"clean:0": CLEAN, **conditions})], 1000)
    assert value(rows, "fog", "ce", 1, "step0").value == pytest.approx(0.5 / 0.75)
    assert value(rows, "fog", "ce", 1, "alexnet").value == pytest.approx(0.5 / 0.819324)
    assert value(rows, "corruptions", "mce", 1, "step0").value == pytest.approx(0.5 / 0.75)
    expected = sum(0.75 / error for error in ALEXNET.values()) / 15
    assert value(rows, "corruptions", "mce", 0, "alexnet").value == pytest.approx(expected)
    rows = tabulate("d", [measured(**{"clean:0": CLEAN, "fog:1": NOISY})], 1000)
    assert {(row.metric, row.name) for row in rows if row.metric in ("ce", "mce")} == {("ce", "step0")}


def test_several_runs_are_averaged_and_must_match() -> None:
    one = measured(**{"clean:0": CLEAN, "gaussian:1": NOISY})
    other = measured(**{"clean:0": NOISY, "gaussian:1": CLEAN})
    rows = tabulate("d", [one, other], 10)
    assert value(rows, "clean", "accuracy", 0).value == 0.5
    with pytest.raises(InputError, match="other conditions than the first"):
        tabulate("d", [one, measured(**{"clean:0": CLEAN})], 10)
    other["clean:0"]["index"] = torch.tensor([5, 6, 7, 8])
    with pytest.raises(InputError, match="other images"):
        tabulate("d", [one, other], 10)


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = tabulate("d", [measured(**{"clean:0": CLEAN, "gaussian:0.5": NOISY})], 10)
    write_table(rows, tmp_path / "t.csv")
    header = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert header == "data,noise,level,step,metric,name,value,low,high,n"
    assert read_table(tmp_path / "t.csv") == [
        Row(**{**row.__dict__, **{k: float(f"{getattr(row, k):.9g}") for k in ("value", "low", "high")}})
        for row in rows
    ]
