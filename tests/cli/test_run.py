"""``run``: what it prints, what it writes, and that the numbers are those of the scheduler."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._pytree import tree_leaves

import pcgraph as pcg
from pcgraph.datasets import preprocess_for
from pcgraph.datasets.images import PIXELS, find_images, load_images
from pcgraph.datasets.noise import Noise
from pcgraph.files.shipped import photo
from pcgraph.simulation.compiling import Compiler
from pcgraph.spec import Backbone, Preprocess

from .conftest import SMALL, Cli

IMAGENET = Preprocess()


def metrics(folder: Path) -> dict[tuple[str, int, str, str], float]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "step", "quantity", "name", "value"]
    return {(r["image"], int(r["step"]), r["quantity"], r["name"]): float(r["value"]) for r in rows}


def test_run_writes_what_the_scheduler_computes(cli: Cli, small: Path, tmp_path: Path) -> None:
    outcome = cli(
        "run",
        "small.yaml",
        "photos",
        "--trust",
        "--out",
        "out",
        "--record",
        "values:e2",
        "--record",
        "errors",
    )
    assert outcome.status == 0, outcome.err
    _, images = next(load_images(find_images(["photos"]), IMAGENET, (3, 16, 16)))
    network = pcg.build(small, trust=True)
    run = pcg.Scheduler(network).run(images, record=["output", "values", "errors", "energy"])
    found = metrics(tmp_path / "out")
    for step in range(3):
        probabilities = run.output[step].softmax(dim=1)
        for place, name in enumerate(["photos:chelsea", "photos:coffee", "photos:rocket"]):
            for term, energy in run.energy.items():
                assert found[name, step, "energy", term] == pytest.approx(
                    energy[step][place].item(), rel=1e-6
                )
            best = int(probabilities[place].argmax())
            expected = pytest.approx(probabilities[place, best].item(), rel=1e-6)
            assert found[name, step, "probability", f"class {best}"] == expected
    tensors = load_file(tmp_path / "out" / "tensors.safetensors")
    assert set(tensors) == {"values:e2", *(f"errors:{term}" for term in run.errors)}
    assert tensors["values:e2"].shape == (3, 3, 12, 8, 8)
    assert torch.allclose(tensors["values:e2"][2], run.values["e2"][2], atol=1e-6)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("spec.yaml", "run.json", "metrics.csv", "tensors.safetensors", "figure.png", "figure.svg"),
        "report.html",
    }


def test_run_prints_classes_energies_and_that_nothing_is_trained(cli: Cli, small: Path) -> None:
    out = cli("run", "small.yaml", "photos:coffee", "--trust").out
    assert "photos:coffee: classes" in out
    for edge in ("e1->input", "e2->e1", "e3->e2", "e2->e3"):
        assert edge in out
    assert "The weights of the feedback are random, not trained" in out
    assert "The backbone's weights are random" in out
    assert "Run folder: runs/small-" in out.replace("\\", "/")


def test_quiet_prints_the_folder_alone(cli: Cli, small: Path) -> None:
    outcome = cli("run", "small.yaml", "photos:coffee", "--trust", "-q", "--out", "o")
    assert (outcome.out, outcome.err) == ("Run folder: o\n", "")


def test_json_is_all_there_is(cli: Cli, small: Path) -> None:
    data = cli("run", "small.yaml", "photos:coffee", "--trust", "--json", "--steps", "1").json
    assert data["steps"] == 1
    assert data["feedback_trained"] is False
    assert len(data["energy"]["e2->e1"]) == 2
    first = data["classes"]["photos:coffee"][0]
    assert [list(row) for row in first] == [["class", "probability"]] * 3
    assert first[0]["probability"] >= first[1]["probability"] >= first[2]["probability"]


@pytest.mark.heavy
def test_the_run_folder_repeats_the_run(cli: Cli, small: Path, tmp_path: Path) -> None:
    cli("run", "small.yaml", "photos", "--trust", "--out", "a", "--noise", "gaussian:0.5", "--seed", "3")
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["seed"] == 3
    assert record["noise"] == "gaussian:0.5"
    assert record["device"] == "cpu"
    assert record["versions"]["torch"] == str(torch.__version__)
    assert record["spec"]["dynamics"]["feedforward"] == 0.3
    assert [image["name"] for image in record["images"]] == [
        "photos:chelsea",
        "photos:coffee",
        "photos:rocket",
    ]
    outcome = cli(
        "run", "a/spec.yaml", "photos", "--trust", "--out", "b", "--noise", "gaussian:0.5", "--seed", "3"
    )
    assert outcome.status == 0
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


@pytest.mark.heavy
def test_the_batch_changes_nothing(cli: Cli, small: Path, tmp_path: Path) -> None:
    for size in (1, 2, 3):
        arguments = (
            "--trust",
            "--out",
            f"b{size}",
            "--batch",
            size,
            "--noise",
            "salt_pepper:0.2",
            "--record",
            "output",
        )
        assert cli("run", "small.yaml", "photos", *arguments).status == 0
    first, *others = [metrics(tmp_path / f"b{size}") for size in (3, 1, 2)]
    for other in others:
        assert first.keys() == other.keys()
        assert all(other[key] == pytest.approx(value, rel=1e-4, abs=1e-6) for key, value in first.items())
    outputs = [load_file(tmp_path / f"b{size}" / "tensors.safetensors")["output"] for size in (1, 3)]
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)


@pytest.mark.heavy
def test_memory_changes_nothing(cli: Cli, small: Path, tmp_path: Path) -> None:
    for name, options in (("whole", ()), ("parts", ("--memory", "600 KB"))):
        arguments = ("photos", "--trust", "--out", name, "--record", "values:e1")
        assert cli("run", "small.yaml", *arguments, *options).status == 0
    whole, parts = metrics(tmp_path / "whole"), metrics(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(parts[key] == pytest.approx(value, rel=1e-4, abs=1e-6) for key, value in whole.items())
    one, other = [
        load_file(tmp_path / name / "tensors.safetensors")["values:e1"] for name in ("whole", "parts")
    ]
    assert torch.allclose(one, other, atol=1e-5)


def test_an_early_stop_keeps_the_last_values(cli: Cli, small: Path, tmp_path: Path) -> None:
    small.write_text(SMALL.replace("steps: 2", "steps: 60, tolerance: 0.05"))
    cli("run", "small.yaml", "photos", "--trust", "--out", "o", "--batch", "1", "--record", "values:e1")
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    steps = [image["steps"] for image in record["images"]]
    assert max(steps) == record["steps"] < 60
    assert len(set(steps)) > 1
    kept = load_file(tmp_path / "o" / "tensors.safetensors")["values:e1"]
    assert len(kept) == max(steps) + 1
    early = steps.index(min(steps))
    assert torch.equal(kept[steps[early], early], kept[-1, early])
    rows = [key for key in metrics(tmp_path / "o") if key[0] == record["images"][early]["name"]]
    assert max(step for _, step, _, _ in rows) == steps[early]


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_precisions(cli: Cli, small: Path, dtype: str) -> None:
    exact = cli("run", "small.yaml", "photos:coffee", "--trust", "--json").json
    other = cli("run", "small.yaml", "photos:coffee", "--trust", "--json", "--dtype", dtype).json
    tolerance = 1e-4 if dtype == "float64" else 0.1
    for edge, energies in exact["energy"].items():
        assert other["energy"][edge][2] == pytest.approx(energies[2], rel=tolerance), edge
    assert other["energy"] != exact["energy"]


def test_a_network_without_backbone_takes_grey_photographs(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("run", "pc_mlp", "photos:coffee", "--steps", "2", "--out", "o", "--record", "values:image")
    assert outcome.status == 0
    assert "classes" not in outcome.out
    assert "hidden1->hidden2" in outcome.out
    kept = load_file(tmp_path / "o" / "tensors.safetensors")["values:image"]
    _, expected = next(load_images([photo("coffee")], PIXELS, (1, 28, 28)))
    assert torch.equal(kept[0], expected)


def test_a_network_that_takes_no_image_runs_on_random_numbers(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text(
        "name: v\nnodes: {a: {shape: [5]}, b: {shape: [3]}}\n"
        "edges: [{source: a, target: b}]\ndynamics: {rule: energy}\nschedule: {steps: 2, initial: zeros}\n"
    )
    first, again = (cli("run", "v.yaml", "--json", "--seed", "1").json["energy"] for _ in range(2))
    assert first == again
    assert cli("run", "v.yaml", "--json", "--seed", "2").json["energy"] != first
    refused = cli("run", "v.yaml", "photos")
    assert refused.status == 2
    assert "has shape (5), which no image has" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.yaml"], "gone.yaml: no such file"),
        (["small.yaml", "gone.jpg"], "gone.jpg: no such file, folder or data set"),
        (["small.yaml", "phtos"], "Did you mean 'photos'?"),
        (["small.yaml", "photos:cofee"], "no shipped photograph is called 'cofee'\n  Did you mean 'coffee'?"),
        (["small.yaml", "empty"], "empty: this folder holds no image"),
        (["small.yaml", "broken.png"], "broken.png: "),
        (["small.yaml", "small.yaml"], "small.yaml: no image file that can be read"),
        (
            ["small.yaml", "--noise", "gauss:1"],
            "noise 'gauss:1': unknown kind 'gauss'\n  Did you mean 'gaussian'?",
        ),
        (["small.yaml", "--noise", "gaussian"], "expected a number from 0 on after 'gaussian:', got nothing"),
        (
            ["small.yaml", "--noise", "salt_pepper:2"],
            "expected a share from 0 to 1 after 'salt_pepper:', got '2'",
        ),
        (["small.yaml", "--noise", "gaussian:nan"], "expected a number from 0 on"),
        (
            ["small.yaml", "--record", "valus"],
            "nothing called 'valus' can be recorded\n  Did you mean 'values'?",
        ),
        (["small.yaml", "--record", "values:e9"], "there is no 'e9'"),
        (["small.yaml", "--device", "tpu9"], "device 'tpu9' cannot be used"),
        (["small.yaml", "--memory", "lots"], "memory: expected an amount such as '2GB', got 'lots'"),
        (["small.yaml", "--memory", "20KB"], "memory: 20 KB are too little: "),
        (["small.yaml", "--steps", "-1"], "invalid value for '--steps'"),
        (["small.yaml", "--out", "small.yaml"], "small.yaml: is a file, expected a folder for the run"),
        (["small.yaml", "--out", "small.yaml/x"], "small.yaml: is a file, expected a folder for the run"),
        (["small.yaml", "--out", "empty/.."], "exists already"),
        (["small.yaml", "random", "photos"], "'random' stands alone"),
    ],
)
def test_bad_runs_say_what_is_wrong_and_write_nothing(
    cli: Cli, small: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 20)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    outcome = cli("run", *arguments, "--trust")
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    as_json = cli("run", *arguments, "--trust", "--json")
    assert (as_json.status, as_json.out) == (2, "")
    assert as_json.faults


def test_divergence_is_a_fault_that_names_node_and_step(cli: Cli, small: Path) -> None:
    small.write_text(SMALL + "dynamics: {error: 1.0e+30}\n")
    outcome = cli("run", "small.yaml", "photos:coffee", "--trust", "--steps", "20")
    assert outcome.status == 2
    assert "is not finite after step" in outcome.err


@pytest.mark.heavy
def test_force_replaces_runs_and_nothing_else(cli: Cli, small: Path, tmp_path: Path) -> None:
    arguments = ("run", "small.yaml", "photos:coffee", "--trust", "-q", "--out")
    assert cli(*arguments, "o").status == 0
    assert "o: exists already\n  Choose another folder, or --force." in cli(*arguments, "o").err
    assert cli(*arguments, "o", "--force").status == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused = cli(*arguments, "mine", "--force")
    assert refused.status == 2
    assert "mine: is no run folder: it holds no 'run.json'" in refused.err
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_broken_image_among_many_leaves_nothing_behind(cli: Cli, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:40])
    outcome = cli("run", "small.yaml", "pictures", "--trust", "--batch", "1", "--out", "o")
    assert outcome.status == 2
    assert str(Path("pictures") / "2.png") in outcome.err
    assert not (tmp_path / "o").exists()


def test_what_the_weights_want_of_images_is_scaled_to_the_input() -> None:
    def resize(
        side: int, model: str = "torchvision:resnet18", weights: str | None = "IMAGENET1K_V1"
    ) -> int | None:
        return preprocess_for(Backbone(model=model, weights=weights, input=(3, side, side))).resize

    assert resize(224) == 256  # torchvision's transforms of these weights
    assert resize(112) == 128
    assert resize(224, "torchvision:resnet50", "IMAGENET1K_V2") == 232
    assert resize(224, weights=None) is None


def test_noise_is_drawn_for_each_image_and_seed() -> None:
    paths = [photo("coffee"), photo("coffee")]

    def load(seed: int) -> torch.Tensor:
        return next(load_images(paths, IMAGENET, (3, 64, 64), noise=Noise("gaussian", 1.0), seed=seed))[1]

    assert torch.equal(load(0), load(0))
    assert not torch.equal(load(0), load(1))
    assert not torch.equal(load(0)[0], load(0)[1])
    assert not torch.equal(load(0)[1], load(1)[0])


@pytest.mark.heavy
def test_compiled_runs_and_evaluations_give_the_same(
    cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compilations = CompileCounterWithBackend("aot_eager")

    def find_compiler(network: pcg.PCNetwork, options: dict[str, object]) -> Compiler:
        weights = [*network.parameters(), *network.buffers()]
        return Compiler(network.device, {"backend": compilations}, weights=weights)

    monkeypatch.setattr("pcgraph.scheduler.find_compiler", find_compiler)
    evaluation = ["--data", "photos", "--limit", "3", "--batch", "2", "--steps", "2"]
    for command, key in (
        (["run", "small.yaml", "photos:chelsea", "--steps", "2"], "energy"),
        (["evaluate", "small.yaml", *evaluation, "--distances", "--noise", "gaussian:1"], "results"),
    ):
        results = []
        for options in ([], ["--compile"]):
            before = compilations.frame_count
            outcome = cli(*command, *options, "--trust", "--json", "--force", "--out", "out")
            assert outcome.status == 0, outcome.err
            results.append(outcome.json[key])
            assert compilations.frame_count - before == (3 if options else 0)
        plain, compiled = map(tree_leaves, results)
        assert any(plain)
        assert compiled == pytest.approx(plain, rel=1e-4, abs=1e-6)


@pytest.mark.heavy
def test_the_fastest_way_gives_the_same(cli: Cli, small: Path) -> None:
    evaluation = ["--data", "photos", "--limit", "3", "--batch", "2", "--steps", "2"]
    for command, key in (
        (["run", "small.yaml", "photos:chelsea", "--steps", "2"], "energy"),
        (["evaluate", "small.yaml", *evaluation, "--noise", "gaussian:1"], "results"),
    ):
        plain = cli(*command, "--trust", "--json", "--force", "--out", "out")
        fast = cli(*command, "--trust", "--json", "--force", "--out", "out", "--fast")
        assert fast.status == 0, fast.err
        expected = tree_leaves(plain.json[key])
        assert any(expected)
        assert tree_leaves(fast.json[key]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    told = cli(*command, "--trust", "--force", "--out", "out", "--fast")
    assert re.search(r"^Fastest: .* a step; measured: as it is .* ms; ", told.err, re.MULTILINE)


@pytest.mark.parametrize("command", [["run", "small.yaml"], ["evaluate", "small.yaml", "--data", "photos"]])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--compile"], "--fast and --compile exclude each other"),
        (["--memory", "2GB"], "--fast and --memory exclude each other: parts of a batch are not"),
    ],
)
def test_what_the_fastest_way_excludes(
    cli: Cli, small: Path, command: list[str], options: list[str], expected: str
) -> None:
    outcome = cli(*command, "--trust", "--fast", *options)
    assert outcome.status == 2
    assert expected in outcome.err
    assert not Path("runs").exists()
