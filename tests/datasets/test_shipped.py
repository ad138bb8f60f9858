"""The shipped data is what it says it is."""

from __future__ import annotations

import torch

from pcgraph.datasets import digits


def test_digits_are_real_balanced_and_split() -> None:
    data = digits()
    assert data.train_images.shape == (4000, 1, 28, 28)
    assert data.test_images.shape == (1000, 1, 28, 28)
    assert data.train_images.dtype == torch.float32
    for images in (data.train_images, data.test_images):
        assert images.min() == 0
        assert images.max() == 1
    assert data.train_labels.bincount().tolist() == [400] * 10
    assert data.test_labels.bincount().tolist() == [100] * 10
    both = torch.cat([data.train_images, data.test_images]).flatten(1)
    assert len(both.unique(dim=0)) == 5000  # nothing stands in both parts
    # Nearest neighbours recognise most real digits: images and labels belong together.
    nearest = torch.cdist(data.test_images[:200].flatten(1), data.train_images.flatten(1)).argmin(1)
    assert (data.train_labels[nearest] == data.test_labels[:200]).float().mean() > 0.85
