"""``--fast`` of the commands that train or ask: what it says, what it refuses, and that results stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import pcgraph as pcg
from pcgraph.acceleration.trial import Trial
from tests.cli.conftest import Cli

LEARN = ("--trust", "--tracker", "none", "--device", "cpu", "--epochs", "1", "--batch", "4")
PAIR = """\
name: pair
nodes: {image: {shape: [1, 28, 28]}, hidden: {shape: [3, 14, 14]}, label: {shape: [10]}}
edges:
  - {source: image, target: hidden, predictor: [{Conv2d: {kernel_size: 3, stride: 2, padding: 1}}, Tanh]}
  - {source: hidden, target: label, predictor: [Flatten, Linear]}
  - {source: label, target: image, predictor: [Linear, Unflatten]}
dynamics: {rule: energy, rate: 0.1}
schedule: {steps: 5}
"""
QUERIES: dict[str, tuple[str, ...]] = {
    "classify": ("--clamp", "image=digits:test:0-2", "--free", "label"),
    "complete": ("--clamp", "image=digits:test:0-2", "--mask", "image=upper"),
    "denoise": ("--clamp", "image=digits:test:0-2", "--noise", "gaussian:0.5", "--soft", "image=2"),
}


@pytest.fixture
def channels_last_is_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements find that each way is faster than the one before; what is found is kept."""
    monkeypatch.setenv("PCGRAPH_CACHE", str(tmp_path / "cache"))

    def seconds(trial: Trial[Any], taken: Any) -> float:
        return 0.5 if hasattr(trial, "best") else 1.0

    monkeypatch.setattr(Trial, "_seconds", seconds)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", QUERIES)
def test_a_query_is_answered_the_same(kind: str, cli: Cli, channels_last_is_faster: None) -> None:
    Path("pair.yaml").write_text(PAIR)
    arguments = ("query", "pair.yaml", *QUERIES[kind], "--device", "cpu")
    assert cli(*arguments, "--out", "plain").status == 0
    fast = cli(*arguments, "--fast", "--out", "fast")
    assert fast.status == 0, fast.err
    assert "Fastest: channels-last 500 ms a step; measured: as it is 1e+03 ms; channels-last" in fast.err
    again = cli(*arguments, "--fast", "--out", "again")
    assert ", by an earlier process" in again.err
    plain = load_file("plain/tensors.safetensors")
    for folder in ("fast", "again"):
        for name, value in load_file(f"{folder}/tensors.safetensors").items():
            torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-5)


def test_queries_with_other_clamps_are_measured_apart(channels_last_is_faster: None) -> None:
    network = pcg.build(pcg.parse_spec(PAIR)).requires_grad_(False)
    image, label = torch.randn(2, 1, 28, 28), torch.eye(10)[:2]
    asked: list[dict[str, Any]] = [
        {"clamp": {"image": image}},
        {"clamp": {"label": label}},
        {"clamp": {"image": image, "label": label}, "free": ["hidden"]},
        {"clamp": {"image": image}, "mask": {"image": image > 0}},
        {"clamp": {"image": image}, "soft": {"image": 2.0}},
        {"clamp": {"image": image}, "free": ["image"]},
    ]
    for recalled in (False, True):
        for one in asked:
            found = pcg.query(network, **one, fast=True).fastest
            assert found is not None
            assert found.recalled is recalled
    assert pcg.query(network, {"image": image}).fastest is None


@pytest.mark.heavy
@pytest.mark.parametrize("command", ["train", "tune"])
def test_what_is_learned_is_the_same(
    command: str, cli: Cli, small: Path, pictures: str, channels_last_is_faster: None
) -> None:
    arguments = (command, "small.yaml", "--data", pictures, *LEARN)
    plain = cli(*arguments, "--out", "plain", "--json").json
    fast = cli(*arguments, "--out", "fast", "--fast", "--json")
    assert fast.err == ""
    for name, value in plain["epochs"][0]["train"].items():
        assert fast.json["epochs"][0]["train"][name] == pytest.approx(value, rel=1e-4)
    again = cli(*arguments, "--out", "again", "--fast")
    assert again.status == 0
    assert "Fastest: channels-last" in again.err
    assert "by an earlier process" in again.err
    learned = load_file("plain/weights.safetensors")
    for name, value in load_file("fast/weights.safetensors").items():
        assert value.is_contiguous()
        torch.testing.assert_close(value, learned[name], rtol=1e-3, atol=1e-4)


def test_what_does_not_go_together(cli: Cli, small: Path, pictures: str, monkeypatch: Any) -> None:
    both = cli("train", "small.yaml", "--data", pictures, *LEARN, "--fast", "--compile", "--json")
    assert both.status == 2
    assert both.faults[0]["message"] == "--fast and --compile exclude each other"
    monkeypatch.setenv("WORLD_SIZE", "2")
    for command in ("train", "tune"):
        several = cli(command, "small.yaml", "--data", pictures, *LEARN, "--fast", "--json")
        assert several.status == 2
        assert "by one process, and there are several" in several.faults[0]["message"]
