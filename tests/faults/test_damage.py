"""Files that pcgraph reads back, damaged at random: what is read is what was written, or nothing is."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import pcgraph as pcg
from pcgraph.errors import PCGraphError
from pcgraph.evaluation.store import PARTS, Store, read_measured
from pcgraph.report.page.reading import read_runs
from pcgraph.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from tests.cli.conftest import SMALL
from tests.examples import examples

from . import SEEDS

pytestmark = pytest.mark.heavy

FEW, MANY = 8, SEEDS or 300
Read = Callable[[Path], Any]


def damage(content: bytes, seed: int) -> bytes:
    """The bytes with a range of them lost, doubled, zeroed, flipped or replaced, or cut off at some place."""
    draw = random.Random(seed)
    length = draw.choice([1, 1, 2, 16, 512, 4096, len(content)])
    first = draw.randrange(len(content))
    part = content[first : first + length]
    kind = draw.randrange(6)
    if kind == 0:
        return content[:first]
    changed = {
        1: bytes(len(part)),
        2: bytes([part[0] ^ (1 << draw.randrange(8))]) + part[1:],
        3: draw.randbytes(len(part)),
        4: b"",
        5: part + part,
    }[kind]
    return content[:first] + changed + content[first + len(part) :]


def run_folder(folder: Path) -> Any:
    """What a report is made of."""
    (found,) = read_runs([folder])
    return found.kind, dict(found.record), [dict(row) for row in found.rows]


def weights(folder: Path) -> Any:
    """What a network is made of."""
    text = (folder / "spec.yaml").read_text()
    network = pcg.build(pcg.parse_spec(text, folder=folder), trust=True)
    return {name: tensor.tolist() for name, tensor in network.state_dict().items()}


def measured(folder: Path) -> Any:
    """What an evaluation measured."""
    return {n: {q: t.tolist() for q, t in rows.items()} for n, rows in read_measured(folder).items()}


def store(folder: Path) -> Any:
    """What an evaluation goes on from; less than was there is measured again."""
    found = Store(folder)
    found.read()
    if found.damaged:
        raise pcg.InputError("measured again")
    return {name: {q: t.tolist() for q, t in rows.items()} for name, rows in found._parts.items()}


def checkpoint(folder: Path) -> Any:
    """What a training goes on from."""
    found = load_checkpoint(folder / "checkpoints")
    assert found is not None
    if found.passed_over:
        assert found.progress.step == 4
        raise pcg.InputError("an older one is taken")
    return asdict(found.progress), {n: t.tolist() for n, t in found.tensors.items()}, str(found.state)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, an evaluation that has ended and one that has not, a training, as their commands write them."""
    from typer.testing import CliRunner

    from pcgraph.cli import app

    from .conftest import draw_pictures

    place = tmp_path_factory.mktemp("folders")
    draw_pictures(place / "pictures")
    (place / "small.yaml").write_text(SMALL)
    data = ("--data", f"folder:{place / 'pictures'}")
    spec = (str(place / "small.yaml"), "--trust", "-q")
    commands = {
        "run": ("run", *spec, "random", "--record", "values:e1"),
        "evaluated": ("evaluate", *spec, *data, "--batch", "4"),
        "trained": ("train", *spec, *data, "--tracker", "none", "--device", "cpu", "--epochs", "1"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "0")
        for name, words in commands.items():
            result = CliRunner().invoke(app, [*words, "--out", str(place / name)])
            assert result.exit_code == 0, result.stderr
    begun = Store(place / "begun")
    begun.folder.mkdir()  # type: ignore[union-attr]
    for part in "01":
        places = torch.tensor([2 * int(part), 2 * int(part) + 1])
        begun.add(part, "clean:0", places, {"loss": torch.randn(3, 2)})
    for step in (4, 8):
        state = {"optimizer": {"step": step, "moments": torch.randn(50)}}
        tensors = {"weight": torch.randn(30, 30), "bias": torch.randn(30)}
        save_checkpoint(place / "begun" / "checkpoints", Progress(step=step), tensors, state, 2)
    return place


KINDS: dict[str, tuple[str, str, Read]] = {
    "run.json": ("run", "run.json", run_folder),
    "spec.yaml": ("run", "spec.yaml", run_folder),
    "metrics.csv": ("run", "metrics.csv", run_folder),
    "tensors.safetensors": ("run", "tensors.safetensors", run_folder),
    "run.json of an evaluation": ("evaluated", "run.json", run_folder),
    "evaluation.csv": ("evaluated", "evaluation.csv", run_folder),
    "images.safetensors": ("evaluated", "images.safetensors", measured),
    "images.safetensors, resumed": ("evaluated", "images.safetensors", store),
    "losses.csv": ("trained", "losses.csv", run_folder),
    "weights.safetensors": ("trained", "weights.safetensors", weights),
    "a part of a store": ("begun", f"{PARTS}/1.safetensors", store),
    "weights of a checkpoint": ("begun", "checkpoints/step-000000008/weights.safetensors", checkpoint),
    "optimizer of a checkpoint": ("begun", "checkpoints/step-000000008/optimizer.pt", checkpoint),
    "progress of a checkpoint": ("begun", "checkpoints/step-000000008/progress.json", checkpoint),
}


def survives(place: Path, kind: str, seed: int) -> bool:
    """Damage a file and read it; whether it was refused. What is read is what was written."""
    folder, name, read = KINDS[kind]
    path = place / folder / name
    content = path.read_bytes()
    expected = read(place / folder)
    try:
        path.write_bytes(damage(content, seed))
        found = read(place / folder)
    except PCGraphError:
        return True
    finally:
        path.write_bytes(content)
    assert str(found) == str(expected)
    return False


@pytest.mark.parametrize("kind", list(KINDS))
@examples(FEW, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_damaged_files(folders: Path, kind: str, seed: int) -> None:
    survives(folders, kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_many_damaged_files(folders: Path, kind: str) -> None:
    refused = sum(survives(folders, kind, seed) for seed in range(MANY))
    print(f"damaged {kind}: {MANY} tried, {refused} refused or passed over, no wrong result")


def test_a_record_without_checksums_is_read(folders: Path, tmp_path: Path) -> None:
    """As older versions wrote them."""
    import json

    shutil.copytree(folders / "run", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    del record["files"], record["sha256"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert run_folder(tmp_path / "run")[2] == run_folder(folders / "run")[2]
