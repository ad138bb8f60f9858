"""Tuning: its loss, what moves, its noise, and what it leaves behind."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import pcgraph as pcg
from pcgraph.datasets import Batch, batches
from pcgraph.errors import InputError
from pcgraph.learning import Feedback
from pcgraph.learning.dynamics import DrawnNoise, DynamicsTask, with_noise
from pcgraph.network import PCNetwork
from pcgraph.spec import Train, Tune, TuningNoise
from pcgraph.training import fit

from ..training.nets import SPEC, images, network


def tuning(**fields: object) -> Tune:
    return Tune.model_validate({"epochs": 2, "batch": 8, "steps": 3, **fields})


def some(count: int = 6) -> Batch:
    net = network()
    items = [images(net, count).item(index) for index in range(count)]
    labels = torch.tensor([item.label for item in items])
    return Batch(torch.stack([item.image for item in items]), labels, torch.arange(count))


@pytest.mark.parametrize("counted", ["every", "last"])
def test_the_loss_is_the_cross_entropy_of_the_outputs_of_a_plain_run(counted: str) -> None:
    batch = some()
    outputs = pcg.Scheduler(network()).run(batch.images, 3).output
    losses = [F.cross_entropy(output, batch.labels) for output in outputs]
    expected = sum(losses[1:]) / 3 if counted == "every" else losses[3]
    (found,) = DynamicsTask(network(), tuning(loss=counted)).moments(batch)
    torch.testing.assert_close(found["cross_entropy"], expected, atol=1e-5, rtol=0)


def test_only_what_shall_learn_gets_a_gradient() -> None:
    task = DynamicsTask(network(), tuning())
    (losses,) = task.moments(some())
    losses["cross_entropy"].backward()
    moved = {name for name, p in task.network.named_parameters() if p.grad is not None}
    assert moved == {f"dynamics.raw.{name}" for name in ("feedforward", "feedback", "memory", "error")}
    both = DynamicsTask(network(), tuning(learns=["dynamics", "predictors"]))
    (losses,) = both.moments(some())
    losses["cross_entropy"].backward()
    moved = {name.split(".")[0] for name, p in both.network.named_parameters() if p.grad is not None}
    assert moved == {"dynamics", "predictors"}


def test_every_batch_draws_its_number_of_steps_and_repeats_it() -> None:
    task = DynamicsTask(network(), tuning(steps=[2, 5]))
    lengths, batch = [], some(1)
    task.scheduler.run = lambda images, steps, **rest: lengths.append(steps) or 1 / 0  # type: ignore[assignment]
    for seed in [*range(40), *range(40)]:
        torch.manual_seed(len(lengths))
        with pytest.raises(ZeroDivisionError):
            next(task.moments(replace(batch, seed=seed)))
    assert set(lengths) == {2, 3, 4, 5}
    assert lengths[:40] == lengths[40:]


@pytest.mark.parametrize("accumulate", [2, 3])
def test_all_parts_of_a_batch_run_as_many_steps(tmp_path: Path, accumulate: int) -> None:
    """Parts that drew their own numbers would give another loss curve."""
    curves = []
    for parts in (1, accumulate):
        net = decided(network())
        settings = tuning(steps=[1, 6], noise={"gaussian": [0, 1]}, accumulate=parts)
        data, folder = with_noise(images(net, 40), settings.noise), tmp_path / str(parts)
        folder.mkdir()
        fit(DynamicsTask(net, settings), data, settings, folder, device="cpu", trackers=[])
        with (folder / "losses.csv").open(newline="") as file:
            curves.append([float(row["value"]) for row in csv.DictReader(file)])
    assert len(curves[0]) == 10
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)


def test_noise_has_the_kind_and_the_levels_that_are_asked_for() -> None:
    grey, draw = torch.full((1, 200, 200), 0.5), torch.Generator().manual_seed(0)
    gaussian = DrawnNoise(TuningNoise(gaussian=(0.5, 1.0)), std=(0.4,))
    sigmas = torch.stack([(gaussian(grey, draw) - grey).std() for _ in range(60)]) / 0.4
    assert 0.48 < sigmas.min() < 0.56
    assert 0.94 < sigmas.max() < 1.02
    peppered = DrawnNoise(TuningNoise(salt_pepper=(0.2, 0.2)), std=(0.4,))(grey, draw)
    assert (peppered != 0.5).float().mean() == pytest.approx(0.2, abs=0.01)
    assert set(peppered.unique().tolist()) == {0.0, 0.5, 1.0}
    both = DrawnNoise(TuningNoise(gaussian=(1.0, 1.0), salt_pepper=(0.3, 0.3)), std=(0.4,))
    kinds = [len(both(grey, draw).unique()) > 3 for _ in range(40)]
    assert 8 < sum(kinds) < 32
    assert torch.equal(DrawnNoise(TuningNoise(), std=(0.4,))(grey, draw), grey)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_clean_images_is_what_is_drawn(share: float) -> None:
    grey, draw = torch.full((1, 4, 4), 0.5), torch.Generator().manual_seed(0)
    noise = DrawnNoise(TuningNoise(gaussian=(0.5, 1.0), salt_pepper=(0.9, 0.9), clean=share), std=(0.4,))
    found = sum(torch.equal(noise(grey, draw), grey) for _ in range(2000)) / 2000
    spread = (share * (1 - share) / 2000) ** 0.5
    assert abs(found - share) <= 4 * spread


def test_noise_belongs_to_the_image_and_the_epoch() -> None:
    data = with_noise(images(network(), 8), TuningNoise(gaussian=(0.0, 1.0)))
    one = data.item(3, seed=1, epoch=2).image
    assert torch.equal(one, data.item(3, seed=1, epoch=2).image)
    assert not torch.equal(one, data.item(3, seed=1, epoch=3).image)


def decided(net: PCNetwork) -> PCNetwork:
    """The network with random scores that are worth changing."""
    net.drive.model.get_submodule("5").weight.data *= 20
    return net


def test_tuning_lowers_the_loss_and_leaves_plain_numbers(tmp_path: Path) -> None:
    net = decided(network())
    before = net.dynamics.values()
    settings = tuning(noise={"gaussian": [0, 1]}, optimizer={"name": "Adam", "lr": 0.1}, epochs=6)
    task = DynamicsTask(net, settings)
    data = with_noise(images(net, 40), settings.noise)
    (batch,) = batches(data, 40)
    first = task.measure(batch)["cross_entropy"]
    fit(task, data, settings, tmp_path, device="cpu", trackers=[])
    last = task.measure(batch)["cross_entropy"]
    assert last < first - 0.01
    tuned = decided(pcg.build(tmp_path / "spec.yaml", trust=True))
    assert set(tuned.spec.dynamics.nodes) == {"e1", "e2"}
    assert any(abs(tuned.dynamics.values()[key] - value) > 0.01 for key, value in before.items())
    expected = pcg.Scheduler(task.network).run(batch.images, 3).output[-1]
    torch.testing.assert_close(
        pcg.Scheduler(tuned).run(batch.images, 3).output[-1], expected, atol=1e-4, rtol=1e-4
    )


def test_measure_compares_with_the_plain_network() -> None:
    batch = some(20)
    task = DynamicsTask(decided(network()), tuning())
    after = pcg.Scheduler(decided(network())).run(batch.images, 3).output[-1]
    plain = (task.network.drive.model(batch.images).argmax(1) == batch.labels).float().mean()
    found = task.measure(batch)
    assert found["accuracy at step 0"] == plain
    assert found["accuracy"] == (after.argmax(1) == batch.labels).float().mean()


def test_refuses_what_cannot_be_tuned() -> None:
    energy = network(SPEC + "dynamics: {rule: energy}\n")
    with pytest.raises(pcg.InputError, match="only the rule 'predify'"):
        DynamicsTask(energy, tuning())
    free = pcg.build(
        pcg.parse_spec(
            "{name: free, nodes: {a: {shape: [3]}, b: {shape: [2]}}, edges: [{source: a, target: b}]}"
        )
    )
    with pytest.raises(pcg.InputError, match="no class scores"):
        DynamicsTask(free, tuning())


@pytest.mark.parametrize("learns", [["dynamics"], ["dynamics", "predictors"]])
@pytest.mark.parametrize("frozen", [(), ("e2->e1",)])
def test_a_tuned_network_learns_on_as_before(
    tmp_path: Path, learns: list[str], frozen: tuple[str, ...]
) -> None:
    """What required a gradient requires one again, and the network's spec is what was tuned."""
    net = decided(network())
    for name in frozen:
        net.predictors[name].requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in net.named_parameters()}
    settings = tuning(epochs=1, learns=learns, optimizer={"name": "Adam", "lr": 0.1})
    data = images(net, 16)
    task = DynamicsTask(net, settings)
    fit(task, data, settings, tmp_path / "tuned", device="cpu", trackers=[])
    assert {name: parameter.requires_grad for name, parameter in net.named_parameters()} == before
    written = pcg.load_spec(tmp_path / "tuned" / "spec.yaml")
    assert net.spec.dynamics == written.dynamics
    assert net.spec.dynamics != network().spec.dynamics
    assert net.spec.model_copy(update={"dynamics": network().spec.dynamics}) == network().spec
    assert net.dynamics.values() == pcg.build(net.spec, trust=True, weights=False).dynamics.values()
    kept = {name: weight.clone() for name, weight in net.named_parameters()}
    fit(Feedback(net), data, Train(epochs=1, batch=8), tmp_path / "on", device="cpu", trackers=[])
    moved = {name for name, weight in net.named_parameters() if not torch.equal(weight, kept[name])}
    assert moved == {name for name in kept if name.startswith("predictors.")}
    with pytest.raises(InputError, match="this tuning is over"):
        fit(task, data, settings, tmp_path / "again", device="cpu", trackers=[])


def test_an_interrupted_tuning_goes_on(tmp_path: Path) -> None:
    """Nothing is put in order then: the values are on their way."""
    net = decided(network())
    settings = tuning(epochs=2)
    task = DynamicsTask(net, settings)
    fit(task, images(net, 16), settings, tmp_path, device="cpu", trackers=[], stop=lambda: True)
    assert net.dynamics is task.dynamics
    net = decided(network())
    task = DynamicsTask(net, settings)
    fit(task, images(net, 16), settings, tmp_path, device="cpu", trackers=[], resume=True)
    assert net.dynamics is not task.dynamics
    assert net.spec.dynamics == pcg.load_spec(tmp_path / "spec.yaml").dynamics
