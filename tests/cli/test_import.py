"""``import predify``: configs and checkpoints become a spec that repeats the published package's run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.spec import Edge
from tests.goldens import nets

from .conftest import Cli

GOLDENS = Path(__file__).parents[1] / "goldens" / "predify"
MODEL = "python:tests.cli.test_import:Wrapper"


class Wrapper(nn.Module):
    """Holds the chain as `features`, as the network did that made the goldens."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nets.chain()

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def predictors(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The state dict of each node's predictor."""
    prefixes = [f"predictor.{index}." for index in range(3)]
    return [
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for prefix in prefixes
    ]


def save_checkpoints(folder: Path, tensors: dict[str, Tensor], roots: list[float] | None, form: str) -> None:
    for index, state in enumerate(predictors(tensors)):
        held: dict[str, Any] = dict(state)
        if form == "training":
            held = {f"pmodule.{name}": value for name, value in state.items()}
            held["C_sqrt"] = torch.tensor(-1.0 if roots is None else roots[index])
            held = {"pcoderweights": held, "optimizer": {"state": {}, "lr": 0.1}, "epoch": 4}
        torch.save(held, folder / f"pnet_pretrained_pc{index + 1}_005.pth")


# A bare module does not hold the published package's estimate of C, which `normalized` needs.
@pytest.mark.parametrize(
    ("case", "form"),
    [
        ("chain_mean", "training"),
        ("chain_mean", "bare"),
        ("chain_normalized", "training"),
        ("chain_shared", "training"),
    ],
)
def test_config_and_checkpoints_repeat_the_published_run(
    cli: Cli, tmp_path: Path, case: str, form: str
) -> None:
    tensors = load_file(GOLDENS / f"{case}.safetensors")
    roots = json.loads((GOLDENS / f"{case}.json").read_text()).get("sqrt_c")
    save_checkpoints(tmp_path, tensors, roots, form)
    outcome = cli(
        *("import", "predify", GOLDENS / f"{case}.toml", "--model", MODEL, "-o", "p.yaml"),
        *("--weights", "*pc*.pth", "--trust"),
    )
    assert outcome.status == 0, outcome.err
    assert outcome.out == "Wrote p.yaml and p.safetensors\n"
    model = Wrapper()
    model.load_state_dict(
        {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
    )
    network = pcg.build(tmp_path / "p.yaml", model=model)
    assert network.feedback_trained
    run = pcg.Scheduler(network).run(tensors["input"], steps=6, record=["output", "values"])
    for step in range(7):
        assert torch.allclose(run.output[step], tensors[f"t{step}.output"], atol=1e-5, rtol=0)
        for index in range(3):
            expected = tensors[f"t{step}.node.{index}"]
            assert torch.allclose(run.values[f"e{index + 1}"][step], expected, atol=1e-5, rtol=0)


def test_the_reach_is_the_square_of_what_the_checkpoint_holds(cli: Cli, tmp_path: Path) -> None:
    tensors = load_file(GOLDENS / "chain_shared.safetensors")
    save_checkpoints(tmp_path, tensors, [27**0.5, 288**0.5, 432.3**0.5], "training")
    arguments = (
        "import",
        "predify",
        GOLDENS / "chain_shared.toml",
        "--model",
        MODEL,
        "-o",
        "p.yaml",
        "--trust",
    )
    cli(*arguments, "--weights", "*pc*.pth")
    edges = [edge for edge in pcg.load_spec(tmp_path / "p.yaml").feedback if isinstance(edge, Edge)]
    assert [edge.reach for edge in edges] == [27, 288, pytest.approx(432.3, rel=1e-6)]


def test_a_config_alone(cli: Cli, tmp_path: Path) -> None:
    arguments = (
        "import",
        "predify",
        GOLDENS / "chain_mean.toml",
        "--model",
        MODEL,
        "-o",
        "p.yaml",
        "--trust",
    )
    assert cli(*arguments, "--json").json == {"spec": "p.yaml", "weights": None, "nodes": ["e1", "e2", "e3"]}
    spec = pcg.load_spec(tmp_path / "p.yaml")
    assert spec.weights is None
    assert cli("check", "p.yaml", "--trust").status == 0
    assert "p.yaml: exists already" in cli(*arguments).err


def test_faults(cli: Cli, tmp_path: Path) -> None:
    good = GOLDENS / "chain_mean.toml"
    text = good.read_text()

    def refused(config: Path, *more: str) -> str:
        outcome = cli("import", "predify", config, "--model", MODEL, "-o", "p.yaml", "--trust", *more)
        assert (outcome.status, outcome.out) == (2, "")
        assert not (tmp_path / "p.yaml").exists()
        assert not (tmp_path / "p.safetensors").exists()
        return outcome.err

    assert "no such file" in refused(tmp_path / "gone.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace("ConvTranspose2d(12", "ConvTransposed2d(12"))
    assert "bad.toml:" in (message := refused(bad))
    assert "Did you mean 'ConvTranspose2d'" in message
    bad.write_text(text.replace("features[3]", "features[33]"))
    assert "the model has no node 'features.33'" in refused(bad)
    assert "no file matches 'none*.pth'" in refused(good, "--weights", "none*.pth")
    tensors = load_file(GOLDENS / "chain_mean.safetensors")
    save_checkpoints(tmp_path, tensors, None, "training")
    (tmp_path / "pnet_pretrained_pc2_005.pth").rename(tmp_path / "pnet_pretrained_pc1_004.pth")
    message = refused(good, "--weights", "*pc*.pth")
    assert "node 1 has 2 files: pnet_pretrained_pc1_004.pth, pnet_pretrained_pc1_005.pth" in message
    (tmp_path / "pnet_pretrained_pc1_004.pth").rename(tmp_path / "pnet_pretrained_pc2_004.pth")
    first, third = tmp_path / "pnet_pretrained_pc1_005.pth", tmp_path / "pnet_pretrained_pc3_005.pth"
    kept = first.read_bytes()
    first.write_bytes(third.read_bytes())
    message = refused(good, "--weights", "*pc*.pth")
    assert "pnet_pretrained_pc1_005.pth: does not fit the predictor of 'e1->input'" in message
    first.write_bytes(kept)
    third.unlink()
    assert "'*pc*.pth' matches no file of node 3" in refused(good, "--weights", "*pc*.pth")
