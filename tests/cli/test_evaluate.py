"""``evaluate``: its tables and files, its faults, and the same counts from two processes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import pcgraph as pcg
from pcgraph.datasets import open_data, preprocess_for
from pcgraph.runs.folder import RECORD

from .conftest import Cli

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """23 pictures in ten class folders."""
    generator = np.random.default_rng(0)
    for number in range(23):
        path = tmp_path / "pictures" / f"class{number % 10}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(values).save(path)
    return tmp_path / "pictures"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "evaluation.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.heavy
def test_it_writes_what_the_scheduler_computes(cli: Cli, small: Path, folder: Path, tmp_path: Path) -> None:
    outcome = cli(
        *("evaluate", "small.yaml", "--trust", "--data", f"folder:{folder}", "--noise", "gaussian:0.5,2"),
        *("--noise", "salt_pepper:0.1", "--attack", "pgd:0.1", "--target-step", "0,1", "--iterations", "2"),
        *("--steps", "2", "--distances", "--out", "out"),
    )
    assert outcome.status == 0, outcome.err
    network = pcg.build(small, trust=True)
    data = open_data(
        f"folder:{folder}", "test", shape=(3, 16, 16), preprocess=preprocess_for(network.spec.backbone)
    )
    images = torch.stack([data.item(index).image for index in range(23)])
    labels = torch.tensor([data.label(index) for index in range(23)])
    run = pcg.Scheduler(network).run(images, 2, record=["output"])
    rows = {
        (row["noise"], float(row["level"]), int(row["step"]), row["metric"], row["name"]): row
        for row in table(tmp_path / "out")
    }
    for step in range(3):
        right = (run.output[step].argmax(dim=1) == labels).double().mean().item()
        row = rows["clean", 0, step, "accuracy", ""]
        assert float(row["value"]) == pytest.approx(right, abs=1e-9)
        assert float(row["low"]) <= right <= float(row["high"])
        assert row["n"] == "23"
    assert ("gaussian", 2.0, 2, "relative_distance", "e3") in rows
    assert ("pgd@1", 0.1, 2, "attack_success", "") in rows
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("spec.yaml", RECORD, "evaluation.csv", "images.safetensors", "report.html"),
        *(f"{name}.{kind}" for name in ("accuracy", "distances", "attacks") for kind in ("png", "svg")),
    }
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert (record["kind"], record["finished"], record["images"]) == ("evaluate", True, 23)
    for shown in ("accuracy, 23 images", "gaussian 0.5", "success of the attacks", "correlation distance"):
        assert shown in outcome.out


def test_unlabelled_images_are_judged_by_the_clean_answer(cli: Cli, small: Path, tmp_path: Path) -> None:
    outcome = cli(
        *("evaluate", small, "--trust", "--data", "photos", "--limit", "5", "--noise", "gaussian:0.5"),
        *("--out", "out", "--json"),
    )
    assert outcome.status == 0, outcome.err
    assert outcome.json["results"]["agreement"]["clean:0"][0] == 1
    assert {row["metric"] for row in table(tmp_path / "out")} == {"agreement"}
    assert outcome.json["images"] == 5


def test_going_on_with_other_settings_is_refused(cli: Cli, small: Path, folder: Path) -> None:
    given = ("evaluate", small, "--trust", "--data", f"folder:{folder}", "--out", "out", "-q")
    assert cli(*given, "--steps", "1").status == 0
    outcome = cli(*given, "--steps", "2", "--resume")
    assert outcome.status == 2
    assert "steps was 1, now it is 2" in outcome.err
    assert cli(*given, "--steps", "1").status == 2  # it exists already
    added = cli(*given, "--steps", "1", "--noise", "gaussian:1", "--resume")
    assert added.status == 0, added.err
    assert set(load_file("out/images.safetensors")) == {"clean:0/answer"} | {
        f"{condition}/{what}"
        for condition in ("clean:0", "gaussian:1")
        for what in ("agree", "correct", "loss", "index")
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noise", "gausian:1"], "Did you mean 'gaussian'"),
        (["--corruptions", "fog"], "at least 32 x 32 pixels"),
        (["--imagenet-c", "x"], "--imagenet-c needs --corruptions"),
        (["--attack", "pgd:0.1", "--target-step", "9"], "whole numbers from 0 to 2, got 9"),
        (["--resume"], "--resume needs --out"),
        (["--device", "nowhere"], "cannot be used"),
    ],
)
def test_faults(cli: Cli, small: Path, folder: Path, options: list[str], message: str) -> None:
    outcome = cli("evaluate", small, "--trust", "--data", f"folder:{folder}", *options)
    assert outcome.status == 2
    assert message in outcome.err
    assert not list(Path().glob("runs*"))


def test_dynamics_that_do_not_last_are_warned_of() -> None:
    from pcgraph.cli.evaluate import falls
    from pcgraph.evaluation import Row

    def rows(level: float, *values: float) -> list[Row]:
        return [Row("d", "gaussian", level, s, "accuracy", "", v, v, v, 10) for s, v in enumerate(values)]

    found = falls(rows(0.5, 0.7, 0.88, 0.87, 0.70) + rows(1, 0.5, 0.6, 0.585))
    assert found == [
        "Warning: gaussian 0.5: the dynamics do not last: accuracy is 88.0% at step 1 and falls to 70.0% at "
        "step 3."
    ]


@pytest.mark.heavy
def test_two_processes_give_the_counts_of_one(cli: Cli, small: Path, folder: Path, tmp_path: Path) -> None:
    """23 images in batches of 4, so that neither batches nor images divide."""
    given = [
        *("evaluate", "small.yaml", "--trust", "--data", f"folder:{folder}", "--noise", "gaussian:1", "-q"),
        *("--attack", "pgd:0.1", "--iterations", "2", "--batch", "4", "--device", "cpu", "--distances"),
    ]
    alone = cli(*given, "--out", "alone")
    assert alone.status == 0, alone.err
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "pcgraph", *given, "--out", "both"],
        cwd=tmp_path,
        env={"PATH": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "images.safetensors") for name in ("alone", "both"))
    assert set(one) == set(two)
    assert all(one[name].equal(two[name]) for name in one)
    assert one["pgd@2:0.1/correct"].shape == (3, 23)
    assert table(tmp_path / "alone") == table(tmp_path / "both")
