"""The engine against a loop written by hand; interrupted and not; in parts and whole."""

from __future__ import annotations

import copy
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgraph.datasets import Batch, batches
from pcgraph.errors import InputError
from pcgraph.learning.feedback import Feedback
from pcgraph.network import PCNetwork
from pcgraph.training import epoch_means, fit
from pcgraph.training.losses import COLUMNS

from .nets import SPEC, images, network, settings, weights


def losses(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


LAYERS = "[{Dropout: {p: 0.5}}, BatchNorm2d, {ConvTranspose2d: {kernel_size: 3, padding: 1}}]"
DROPOUT = SPEC.replace("chain", f"[{{source: e1, target: input, predictor: {LAYERS}}}]")


def train(folder: Path, count: int = 40, spec: str = SPEC, **options: Any) -> tuple[PCNetwork, Any]:
    trained = network(spec)
    folder.mkdir(exist_ok=True)
    fields = options.pop("settings", settings())
    data = images(trained, count)
    return trained, fit(Feedback(trained), data, fields, folder, device="cpu", trackers=[], **options)


def plain(count: int, epochs: int, size: int, **arguments: Any) -> tuple[PCNetwork, list[float]]:
    """The loop as anybody would write it: forward hooks' worth of states by hand, Adam, all images."""
    trained = network()
    data = images(trained, count)
    first, second = trained.predictors["e1->input"], trained.predictors["e2->e1"]
    assert trained.drive is not None
    model = copy.deepcopy(trained.drive.model)
    parameters = [*first.parameters(), *second.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=1e-3, **arguments)
    curve = []
    layers = dict(model.named_children())
    for epoch in range(epochs):
        for batch in batches(data, size, epoch=epoch, shuffle=True, drop_last=count > size):
            e1 = F.relu(layers["0"](batch.images))
            e2 = F.relu(layers["2"](e1))
            loss = F.mse_loss(first(e1), batch.images) + F.mse_loss(second(e2), e1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    return trained, curve


def test_agrees_with_a_plain_loop(tmp_path: Path) -> None:
    trained, fitted = train(tmp_path / "a")
    other, curve = plain(40, 2, 8)
    assert fitted.finished
    assert fitted.step == 10
    torch.testing.assert_close(weights(trained), weights(other), atol=1e-7, rtol=1e-6)
    rows = losses(tmp_path / "a")
    assert list(rows[0]) == list(COLUMNS)
    totals = [float(row["value"]) for row in rows if row["name"] == "total"]
    assert totals == pytest.approx(curve, rel=1e-6)
    first = {row["name"]: float(row["value"]) for row in rows if row["step"] == "1"}
    assert first["e1->input"] + first["e2->e1"] == pytest.approx(first["total"], rel=1e-6)
    means = epoch_means(tmp_path / "a" / "losses.csv")
    assert means[1]["train"]["total"] == pytest.approx(sum(curve[5:]) / 5, rel=1e-6)


def test_the_backbone_stays_as_it_is(tmp_path: Path) -> None:
    before = network().state_dict()
    trained, _ = train(tmp_path / "a")
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("drive."), name


@pytest.mark.parametrize("accumulate", [3, 100])
def test_parts_of_a_batch_add_up(tmp_path: Path, accumulate: int) -> None:
    whole, _ = train(tmp_path / "a")
    parts, _ = train(tmp_path / "b", settings=settings(accumulate=accumulate))
    torch.testing.assert_close(weights(whole), weights(parts), atol=2e-6, rtol=0)


def test_what_does_not_fill_a_batch_is_left_out_unless_it_is_all_there_is(tmp_path: Path) -> None:
    assert train(tmp_path / "a", count=20)[1].step == 4
    few, fitted = train(tmp_path / "b", count=5)
    assert fitted.step == 2
    torch.testing.assert_close(weights(few), weights(plain(5, 2, 8)[0]), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("stop_after", [1, 5, 7])
def test_goes_on_to_the_same_end(tmp_path: Path, stop_after: int) -> None:
    """Stopped within an epoch, at its end, and at no multiple of the checkpoints."""
    fields = settings(
        checkpoint=3, schedule={"kind": "cosine", "warmup": 0.5}, augment={"shift": 2}, clip=0.1
    )
    held = images(network(), 10)
    whole, _ = train(tmp_path / "a", settings=fields, validation=held)
    calls = iter(range(1, 100))
    _, stopped = train(
        tmp_path / "b", settings=fields, validation=held, stop=lambda: next(calls) == stop_after
    )
    assert (stopped.finished, stopped.step) == (False, stop_after)
    assert not (tmp_path / "b" / "weights.safetensors").exists()
    other, fitted = train(tmp_path / "b", settings=fields, validation=held, resume=True)
    assert (fitted.finished, fitted.step, fitted.resumed) == (True, 10, stop_after)
    assert torch.equal(weights(whole), weights(other))
    for name in ("losses.csv", "weights.safetensors", "spec.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(list((tmp_path / "b" / "checkpoints").iterdir())) == 2


def test_what_is_random_in_a_predictor_goes_on_too(tmp_path: Path) -> None:
    """Dropout draws the same numbers again, and the statistics of batch norm are kept."""
    whole, _ = train(tmp_path / "a", spec=DROPOUT)
    calls = iter(range(1, 100))
    train(tmp_path / "b", spec=DROPOUT, stop=lambda: next(calls) == 3)
    other, fitted = train(tmp_path / "b", spec=DROPOUT, resume=True)
    assert fitted.resumed == 3
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert not torch.equal(weights(whole), weights(train(tmp_path / "c", spec=DROPOUT, seed=1)[0]))
    norm = whole.predictors["e1->input"][1]
    assert not torch.equal(norm.running_mean, torch.zeros(4))


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    fields = settings(checkpoint=2, keep=3)
    whole, _ = train(tmp_path / "a", settings=fields)
    last = max((tmp_path / "a" / "checkpoints").iterdir())
    (last / "optimizer.pt").write_bytes(b"torn")
    (last.parent / ".step-left-by-a-kill").mkdir()
    other, fitted = train(tmp_path / "a", settings=fields, resume=True)
    assert fitted.resumed == 8
    assert torch.equal(weights(whole), weights(other))
    assert not list(last.parent.glob(".*"))


def test_another_training_does_not_go_on(tmp_path: Path) -> None:
    train(tmp_path / "a")
    with pytest.raises(InputError, match="another training is in this folder: it differs in batch, seed"):
        train(tmp_path / "a", settings=settings(batch=4), resume=True, seed=1)


def test_another_network_does_not_go_on(tmp_path: Path) -> None:
    train(tmp_path / "a")
    other = network(SPEC.replace("steps: 2", "steps: 3"))
    with pytest.raises(InputError, match="another training is in this folder: it differs in spec"):
        fit(
            Feedback(other),
            images(other, 40),
            settings(),
            tmp_path / "a",
            device="cpu",
            trackers=[],
            resume=True,
        )


def test_losses_go_to_a_tracker(tmp_path: Path) -> None:
    trained = network()
    fit(Feedback(trained), images(trained, 8), settings(), tmp_path, device="cpu", trackers=["tensorboard"])
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))


def test_clips_and_changes_the_rate(tmp_path: Path) -> None:
    """SGD makes the step visible: the learning rate times the clipped gradient."""
    fields = settings(
        optimizer={"name": "SGD", "lr": 1.0}, clip=1e-3, epochs=1, schedule={"kind": "step", "warmup": 1.0}
    )
    before = weights(network())
    trained, _ = train(tmp_path / "a", count=8, settings=fields.model_copy(update={"batch": 8}))
    assert float((weights(trained) - before).norm()) == pytest.approx(1e-3, rel=1e-3)
    again, _ = train(tmp_path / "b", count=16, settings=fields)  # the first of two batches has half the rate
    assert 1e-3 < float((weights(again) - before).norm()) <= 1.5e-3 * 1.001


class Spiky:
    """A task whose only loss is what it is told to be."""

    def __init__(self, value: float) -> None:
        self.network, self.value = network(), value

    def parameters(self) -> list[nn.Parameter]:
        return [p.requires_grad_() for p in self.network.predictors.parameters()]

    def moments(self, batch: Batch) -> Iterator[Mapping[str, Tensor]]:
        for _ in range(3):
            yield {"spike": self.parameters()[0].sum() * self.value}

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        return {"share of odd images": (batch.indices % 2).float().mean()}

    def save(self, folder: Path) -> None:
        pass


def test_every_moment_is_a_step_of_the_optimizer(tmp_path: Path) -> None:
    task = Spiky(1.0)
    before = task.parameters()[0].detach().clone()
    fields = settings(optimizer={"name": "SGD", "lr": 0.01}, epochs=1)
    fit(task, images(task.network, 16), fields, tmp_path, device="cpu", trackers=[])
    torch.testing.assert_close(task.parameters()[0].detach(), before - 0.06)


def test_what_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    task = Spiky(float("inf"))
    with pytest.raises(InputError, match="the loss 'spike' of batch 1 is not finite"):
        fit(task, images(task.network, 16), settings(), tmp_path, device="cpu", trackers=[])


def test_every_held_out_image_counts_once(tmp_path: Path) -> None:
    task = Spiky(0.0)
    held = images(task.network, 11)
    fit(task, images(task.network, 16), settings(), tmp_path, device="cpu", trackers=[], validation=held)
    measured = [float(row["value"]) for row in losses(tmp_path) if row["split"] == "validation"]
    assert measured == [pytest.approx(5 / 11)] * 2


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    train(tmp_path / "a")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:99"}, "there is no device 'cuda:99' here"),
        ({"device": "gpu"}, "device 'gpu' cannot be used"),
        ({"trackers": ["wandbb"]}, "there is no tracker 'wandbb'"),
    ],
)
def test_what_there_is_not(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    trained = network()
    with pytest.raises(InputError, match=message):
        fit(
            Feedback(trained),
            images(trained, 8),
            settings(),
            tmp_path,
            **{"device": "cpu", "trackers": [], **options},
        )


def test_half_precision_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision 'float16' needs a GPU"):
        train(tmp_path / "a", settings=settings(precision="float16"))


def test_bfloat16_is_close_to_float32(tmp_path: Path) -> None:
    train(tmp_path / "a")
    train(tmp_path / "b", settings=settings(precision="bfloat16"))
    one, other = (
        [float(row["value"]) for row in losses(tmp_path / name) if row["name"] == "total"] for name in "ab"
    )
    assert one != other
    assert one == pytest.approx(other, rel=0.02)
