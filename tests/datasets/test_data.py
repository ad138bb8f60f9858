"""What is random in an image depends on the seed, the epoch and its place, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pcgraph.datasets import Augment, augmented, digits, noisy, open_data, split, subset
from pcgraph.datasets.data import changed
from pcgraph.datasets.images import normalise
from pcgraph.datasets.noise import Noise
from pcgraph.errors import InputError
from pcgraph.spec import Preprocess

GREY = Preprocess(mean=(0.25,), std=(0.5,))
DATA = open_data("digits", "test", shape=(1, 28, 28), preprocess=GREY)


def test_digits_are_the_shipped_ones() -> None:
    shipped = digits()
    assert len(DATA) == 1000
    assert DATA.labelled
    assert DATA.classes == list("0123456789")
    assert DATA.name == "digits"
    for index in (0, 7, 999):
        item = DATA[index]
        assert torch.equal(item.image, (shipped.test_images[index] - 0.25) / 0.5)
        assert (item.label, item.index) == (shipped.test_labels[index], index)
    train = open_data("digits", "train", shape=(1, 28, 28))
    assert len(train) == 4000
    assert torch.equal(train[17].image, shipped.train_images[17])


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 32, 32), (3, 20, 24)])
def test_digits_for_networks_of_another_size(shape: tuple[int, int, int]) -> None:
    item = open_data("digits", "test", shape=shape)[3]
    assert item.image.shape == shape
    assert 0 <= item.image.min() < 0.1 < 0.9 < item.image.max() <= 1
    if shape == (3, 28, 28):  # grey becomes three equal channels
        assert torch.equal(item.image, digits().test_images[3].expand(3, -1, -1))


def test_gaussian_noise_is_scaled_and_seeded() -> None:
    weak, strong = (noisy(DATA, Noise("gaussian", level)) for level in (0.5, 1.0))
    clean = DATA[4].image
    noise = strong.item(4, 1, 2).image - clean
    assert torch.allclose(weak.item(4, 1, 2).image - clean, noise / 2, atol=1e-6)
    assert abs(noise.mean()) < 0.15
    assert 0.9 < noise.std() < 1.1
    for other in [(4, 0, 2), (4, 1, 0), (5, 1, 2)]:
        different = strong.item(*other).image - DATA[other[0]].image
        assert abs(torch.corrcoef(torch.stack([noise.flatten(), different.flatten()]))[0, 1]) < 0.15


def test_salt_and_pepper_is_black_and_white_before_the_normalisation() -> None:
    image = noisy(DATA, Noise("salt_pepper", 0.4)).item(8).image
    clean = DATA[8].image
    hit = image != clean
    assert {round(float(value), 4) for value in image[hit]} == {
        -0.5,
        1.5,
    }  # (0 - 0.25) / 0.5, (1 - 0.25) / 0.5
    # Half of the hits on a background that is black are salt; pepper there changes nothing.
    assert 0.13 < (hit & (clean == -0.5)).sum() / (clean == -0.5).sum() < 0.27
    assert noisy(noisy(DATA, Noise("salt_pepper", 1.0)), None)[8].image.equal(clean)


def test_noise_and_augmentation_do_not_disturb_each_other() -> None:
    moved = augmented(DATA, Augment(shift=3))
    both = noisy(moved, Noise("gaussian", 1.0))
    alone = noisy(DATA, Noise("gaussian", 1.0))
    added = both.item(2, 5).image - moved.item(2, 5).image
    assert torch.allclose(added, alone.item(2, 5).image - DATA.item(2, 5).image, atol=1e-5)


def test_a_subset_draws_what_the_whole_draws() -> None:
    random = noisy(augmented(DATA, Augment(crop=(0.3, 1))), Noise("gaussian", 0.3))
    part = subset(subset(random, [9, 3, 40]), [2, 0])
    assert len(part) == 2
    assert torch.equal(part.item(0, 1, 1).image, random.item(40, 1, 1).image)
    assert (part.item(1).index, part.label(1)) == (1, random.label(9))
    with pytest.raises(IndexError):
        part.item(2)
    with pytest.raises(IndexError):
        subset(part, [-1])


def test_changes_come_before_the_normalisation_and_in_order() -> None:
    def halved(pixels: Tensor, generator: torch.Generator) -> Tensor:
        return pixels / 2

    def lifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
        return pixels + torch.rand((), generator=generator)

    data = changed(changed(DATA, halved), lifted)
    pixels = data.item(1, 3).image * 0.5 + 0.25
    lift = pixels - DATA.pixels(1) / 2
    assert torch.allclose(lift, lift.mean().expand_as(lift), atol=1e-6)
    assert 0 < lift.mean() < 1
    assert torch.equal(data.item(1, 3).image, normalise(data.pixels(1, 3), GREY))
    assert not torch.equal(data.item(1, 4).image, data.item(1, 3).image)


def test_split_holds_out_a_share_and_loses_nothing() -> None:
    rest, held = split(DATA, 0.1, seed=4)
    assert (len(rest), len(held)) == (900, 100)
    assert rest.places is not None
    assert held.places is not None
    assert sorted([*rest.places, *held.places]) == list(range(1000))
    assert np.array_equal(split(DATA, 0.1, seed=4)[1].places, held.places)
    assert not np.array_equal(split(DATA, 0.1, seed=5)[1].places, held.places)
    with pytest.raises(InputError, match="share"):
        split(DATA, 1.5)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("digit", "no data set is called 'digit'\n.*'digits'"),
        ("digits:here", "Write 'digits' alone"),
        ("folder", "Write folder:PATH"),
        ("imagenet-c:", "Write imagenet-c:PATH"),
        ("mnist:", "Write mnist or mnist:PATH"),
        (".", r"Did you mean 'folder:\.'"),
        ("folder:/no/such/folder", "/no/such/folder: there is no such folder"),
    ],
)
def test_references_that_mean_nothing(reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_data(reference, "train", shape=(3, 8, 8))


def test_other_bad_arguments() -> None:
    with pytest.raises(InputError, match="expected 'train' or 'test'"):
        open_data("digits", "val", shape=(1, 28, 28))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no image has"):
        open_data("digits", "test", shape=(784,))
