"""Every command, one after the other, on models that are no classifiers of square RGB pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import Cli

NETS = """\
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FeaturePyramidNetwork


class Audio(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv1d(1, 8, 80, 16), nn.BatchNorm1d(8)
        self.second, self.pool, self.head = nn.Conv1d(8, 12, 3), nn.MaxPool1d(4), nn.Linear(12, 5)

    def forward(self, x):
        x = self.pool(F.relu(self.norm(self.first(x))))
        x = self.pool(F.relu(self.second(x)))
        return self.head(F.avg_pool1d(x, x.shape[-1]).flatten(1))


class EEG(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Conv2d(1, 4, (1, 33), padding=(0, 16), bias=False)
        self.space = nn.Conv2d(4, 8, (64, 1), groups=4, bias=False)
        self.norm, self.pool, self.head = nn.BatchNorm2d(8), nn.AvgPool2d((1, 8)), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.pool(F.elu(self.norm(self.space(self.time(x))))).mean((2, 3)))


def maps(channels):
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )


def grey():
    return maps(1)


def wide():
    return maps(3)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x + torch.randn_like(x) * torch.sqrt(x + 1e-4)
        return self.head(F.relu(self.second(x)).mean((2, 3)))


def block(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.middle = block(3, 8), block(8, 16), block(16, 16)
        self.up2, self.join2 = nn.ConvTranspose2d(16, 16, 2, 2), block(32, 8)
        self.up1, self.join1, self.out = nn.ConvTranspose2d(8, 8, 2, 2), block(16, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        fine = self.down1(x)
        coarse = self.down2(F.max_pool2d(fine, 2))
        x = self.join2(torch.cat([self.up2(self.middle(F.max_pool2d(coarse, 2))), coarse], 1))
        return self.out(self.join1(torch.cat([self.up1(x), fine], 1)))


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.pyramid = FeaturePyramidNetwork([8, 16], 8)

    def forward(self, x):
        fine = self.fine(x)
        return self.pyramid({"fine": fine, "coarse": self.coarse(fine)})
"""
OWN = {
    "Audio": ((1, 16000), 5),
    "EEG": ((1, 64, 1000), 4),
    "grey": ((1, 64, 101), 4),
    "wide": ((3, 32, 56), 4),
    "Noisy": ((3, 16, 16), 4),
    "UNet": ((3, 16, 24), 0),
    "Pyramid": ((3, 32, 48), 0),
}
LIBRARY = {
    "torchvision:r3d_18": ((3, 4, 32, 32), 400),
    "torchvision:mc3_18": ((3, 4, 32, 32), 400),
    "torchvision:s3d": ((3, 14, 224, 224), 400),  # the smallest that it takes
    "torchvision:deeplabv3_resnet50": ((3, 32, 32), 0),
    "torchvision:fcn_resnet50": ((3, 32, 32), 0),
}
LARGE = ("torchvision:s3d", "torchvision:deeplabv3_resnet50")


def every_command(cli: Cli, model: str, shape: tuple[int, ...], classes: int) -> None:
    """``trace``, ``new``, ``check``, ``show``, ``run`` and ``train``; then ``run`` what was learned."""
    size = ",".join(map(str, shape))
    rows = cli("trace", model, "--input", size, "--trust", "--json")
    assert rows.status == 0, rows.err
    new = cli("new", model, "--input", size, "--trust", "-o", "first.yaml", "-q")
    assert new.status == 0, new.err
    for command in ("check", "show"):
        outcome = cli(command, "first.yaml", "--trust", "-q")
        assert outcome.status == 0, outcome.err
    generator = np.random.default_rng(0)
    np.savez("some.npz", x=generator.standard_normal((4, *shape), np.float32), y=np.arange(4) % 3)
    found = cli(
        "run", "first.yaml", "some.npz", "--steps", 2, "--batch", 3, "--trust", "--out", "a", "--json"
    )
    assert found.status == 0, found.err
    assert bool(found.json["classes"]) == bool(classes)
    given = ("some.npz", "--epochs", 1, "--batch", 2, "--tracker", "none", "--trust", "--out", "b", "--json")
    learned = cli("train", "first.yaml", *given)
    assert learned.status == 0, learned.err
    assert all(np.isfinite(value) for value in learned.json["epochs"][0]["train"].values())
    again = cli("run", "b/spec.yaml", "some.npz", "--steps", 1, "--trust", "--out", "c", "--json")
    assert again.status == 0, again.err
    assert again.json["feedback_trained"]


@pytest.mark.heavy
@pytest.mark.parametrize("kind", OWN)
def test_every_command_on_models_of_ones_own(
    cli: Cli, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kinds_of_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    every_command(cli, f"python:kinds_of_nets:{kind}", *OWN[kind])


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=pytest.mark.slow if name in LARGE else pytest.mark.heavy) for name in LIBRARY],
)
def test_every_command_on_video_and_segmentation(cli: Cli, model: str) -> None:
    every_command(cli, model, *LIBRARY[model])


@pytest.mark.heavy
@pytest.mark.long
def test_a_random_model_runs_alike_in_any_batch(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kinds_of_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a.yaml").write_text(
        "name: a\nbackbone: {model: 'python:kinds_of_nets:Noisy', input: [3, 16, 16]}\n"
        "nodes: {e1: first, e2: second}\nfeedback: chain\nschedule: {steps: 2}\n"
    )
    np.save("x.npy", np.repeat(np.ones((1, 3, 16, 16), np.float32), 5, axis=0))
    given = ("run", "a.yaml", "x.npy", "--trust", "--dtype", "float64", "--json")
    found = [cli(*given, "--batch", size, "--out", f"o{size}").json["energy"] for size in (5, 2, 1)]
    other = cli(*given, "--seed", 1, "--out", "other").json["energy"]
    for term, energy in found[0].items():
        assert found[1][term] == pytest.approx(energy, rel=1e-9)
        assert found[2][term] == pytest.approx(energy, rel=1e-9)
    assert other["e1->e2"] != pytest.approx(found[0]["e1->e2"])
