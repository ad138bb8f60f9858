"""What a command goes on from: the same settings, data and weights, and files that are whole."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import pcgraph as pcg
from pcgraph.evaluation.store import Store
from tests.cli.conftest import SMALL, Cli

from . import contents, everything
from .conftest import draw_pictures

pytestmark = pytest.mark.heavy

DATA = ("--trust", "--data", "folder:pictures", "-q", "--out", "r")
EVALUATE = ("evaluate", "small.yaml", *DATA, "--batch", "4")
TRAIN = ("train", "small.yaml", *DATA, "--tracker", "none", "--device", "cpu", "--epochs", "2")
TRAIN += ("--batch", "4")
DYNAMICS = "dynamics: {rule: predify, feedforward: 0.5, feedback: 0.3, error: 0.05}\n"


def rewrite(old: str, new: str) -> None:
    Path("small.yaml").write_text((SMALL + DYNAMICS).replace(old, new))


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda: rewrite("0.05", "0.06"), "spec.dynamics.error was 0.05, now it is 0.06"),
        (lambda: rewrite("sweep", "synchronous"), "spec.schedule.order was 'sweep'"),
        (lambda: draw_pictures(Path("pictures"), seed=5), "data_digest"),
        (lambda: shutil.move("pictures/class1/1.png", "pictures/class2/1.png"), "data_digest"),
    ],
)
@pytest.mark.parametrize("command", [EVALUATE, TRAIN])
def test_other_dynamics_or_data_are_refused(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, command: tuple[str, ...], edit: object, what: str
) -> None:
    small.write_text(SMALL + DYNAMICS)
    assert cli(*command).status == 0
    before = everything(tmp_path / "r")
    edit()  # type: ignore[operator]
    outcome = cli(*command, "--resume")
    assert outcome.status == 2
    assert (what if command == EVALUATE else "another training is in this folder") in outcome.err
    assert everything(tmp_path / "r") == before


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.pt", "progress.json"])
@pytest.mark.parametrize("damage", ["zeros", "flip", "cut"])
def test_a_damaged_checkpoint_is_passed_over_and_said(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, file: str, damage: str
) -> None:
    """The end is the same, bit for bit, from the checkpoint before it."""
    assert cli(*TRAIN).status == 0
    whole = contents(tmp_path / "r")
    last = max((tmp_path / "r" / "checkpoints").iterdir())
    content = bytearray((last / file).read_bytes())
    middle = len(content) // 2
    if damage == "zeros":
        content[middle : middle + 4096] = bytes(len(content[middle : middle + 4096]))
    elif damage == "flip":
        content[middle] ^= 1
    else:
        del content[middle:]
    (last / file).write_bytes(content)
    outcome = cli(*TRAIN, "--resume")
    assert outcome.status == 0, outcome.err
    assert (
        f"Damaged, so an older checkpoint was taken: {Path('r') / 'checkpoints' / last.name}" in outcome.err
    )
    assert contents(tmp_path / "r") == whole
    again = cli(*TRAIN, "--resume")
    assert (again.status, again.err) == (0, "")


def test_damaged_losses_are_not_gone_on_with(cli: Cli, small: Path, pictures: Path, tmp_path: Path) -> None:
    assert cli(*TRAIN).status == 0
    table = tmp_path / "r" / "losses.csv"
    table.write_bytes(table.read_bytes().replace(b"1", b"2", 1))
    outcome = cli(*TRAIN, "--resume")
    assert outcome.status == 2
    assert "losses.csv: is not what it was at the checkpoint" in outcome.err


def test_a_damaged_store_is_measured_again(cli: Cli, small: Path, pictures: Path, tmp_path: Path) -> None:
    assert cli(*EVALUATE).status == 0
    whole = contents(tmp_path / "r")
    file = tmp_path / "r" / "images.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)
    outcome = cli(*EVALUATE, "--resume")
    assert outcome.status == 0
    assert "Damaged, so its images are measured again: r/images.safetensors" in outcome.err
    assert contents(tmp_path / "r") == whole


def test_weights_of_a_run_folder_that_were_changed_are_refused(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path
) -> None:
    assert cli(*TRAIN).status == 0
    pcg.build(tmp_path / "r" / "spec.yaml", trust=True)
    file = tmp_path / "r" / "weights.safetensors"
    tensors = load_file(file)
    save_file({name: tensor + 1e-7 for name, tensor in tensors.items()}, file)
    outcome = cli("run", "r/spec.yaml", "photos:coffee", "--trust", "--out", "o")
    assert outcome.status == 2
    assert "is another file than the spec means, or damaged" in outcome.err
    assert not (tmp_path / "o").exists()


def rows(folder: Path, metric: str) -> dict[tuple[str, float, int], float]:
    with (folder / "evaluation.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["metric"] == metric]
    return {(row["noise"], float(row["level"]), int(row["step"])): float(row["value"]) for row in found}


@pytest.mark.parametrize("more", [(), ("--batch", "1"), ("--distances", "--attack", "pgd:0.1")])
def test_a_level_that_diverges_is_marked_and_the_others_are_kept(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """3e38 overflows in the first layer; the answers after that are wrong, and never class 0."""
    noise = ("--noise", "gaussian:0.5,3e38")
    plain = cli(*EVALUATE[:-4], "--out", "plain", "--noise", "gaussian:0.5", *more)
    assert plain.status == 0, plain.err
    outcome = cli(*[word for word in EVALUATE if word != "-q"], *noise, *more)
    assert outcome.status == 0, outcome.err
    assert "diverged at step" in outcome.out
    one, two = rows(tmp_path / "plain", "accuracy"), rows(tmp_path / "r", "accuracy")
    assert {key: two[key] for key in one} == one
    assert two["gaussian", 3e38, 2] == 0
    assert rows(tmp_path / "r", "diverged")["gaussian", 3e38, 2] == 1
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["diverged"]["gaussian:3e+38"]["images"] == 12
    before = contents(tmp_path / "r")
    again = cli(*EVALUATE, *noise, *more, "--resume")
    assert again.status == 0, again.err
    assert contents(tmp_path / "r") == before


def test_an_image_that_diverges_does_not_touch_the_others_of_its_batch() -> None:
    """States against a run without it, to the last bit; and the step before keeps its answers."""
    from pcgraph.evaluation.measures import NO_ANSWER, follow, judge
    from tests.goldens.nets import chain

    torch.manual_seed(1)
    text = SMALL.replace('model: "python:tests.goldens.nets:chain", ', "") + DYNAMICS
    scheduler = pcg.Scheduler(pcg.build(pcg.parse_spec(text), model=chain()))
    images = torch.randn(4, 3, 16, 16)
    images[2] *= 3e38
    seen = follow(scheduler, images, 3, True, 0)
    whole = follow(scheduler, images[[0, 1, 3]], 3, True, 0)
    assert torch.equal(seen.answers[:, [0, 1, 3]], whole.answers)
    assert torch.allclose(seen.logits[:, [0, 1, 3]], whole.logits, atol=1e-6)
    lost = seen.answers[:, 2] == NO_ANSWER
    first = int(lost.byte().argmax())
    assert lost.any()
    assert lost[first:].all()
    assert not lost[:first].any()
    labels = torch.zeros(4, dtype=torch.int64)
    assert not judge(seen, seen, labels)["correct"][lost, 2].any()
    assert judge(seen, seen, labels)["agree"][:, [0, 1, 3]][0].all()


def test_scores_that_are_not_finite_are_no_answer() -> None:
    from pcgraph.evaluation.measures import NO_ANSWER, Followed

    nan, inf = float("nan"), float("inf")
    scores = [[nan, nan], [1.0, nan], [inf, 0.0], [-inf, -inf], [-inf, 0.0], [0.0, 1.0]]
    answers = Followed(torch.tensor([scores]), {}).answers
    assert answers.tolist() == [[NO_ANSWER] * 4 + [1, 1]]


def test_a_store_takes_no_part_that_is_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for part, place in (("0", [0, 1]), ("1", [2, 3])):
        store.add(part, "clean:0", torch.tensor(place), {"agree": torch.ones(3, 2, dtype=torch.uint8)})
    file = tmp_path / "parts" / "1.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    other = Store(tmp_path)
    other.read()
    assert other.damaged == [file]
    assert not other.missing(["clean:0"], [0, 1])
    assert other.missing(["clean:0"], [2])
