"""Batches in a seeded order, shared exactly among processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pcgraph.datasets.data import Item
from pcgraph.datasets.noise import mixed_seed
from pcgraph.errors import Fault, InputError

BATCH_STREAM = 1 << 16
"""The stream of what a batch draws, far from those of an image in `pcgraph.datasets.data`."""


@dataclass(frozen=True)
class Batch:
    """Some images of a data set.

    Attributes:
        images: (batch, channels, height, width), float32, normalised.
        labels: (batch,), int64; -1 where there are no labels.
        indices: (batch,), int64: their places in the data set.
        seed: For what is drawn once a batch, such as a number of steps: the same in every part of a batch,
            in every process.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    seed: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        images, labels, indices = self.images.to(device), self.labels.to(device), self.indices.to(device)
        return replace(self, images=images, labels=labels, indices=indices)

    def parts(self, count: int) -> list[Batch]:
        """The batch in ``count`` parts, or in as many as it has images."""
        count = min(count, len(self))
        if count <= 1:
            return [self] if count else []
        pieces = [tensor.tensor_split(count) for tensor in (self.images, self.labels, self.indices)]
        return [
            Batch(images, labels, places, self.seed) for images, labels, places in zip(*pieces, strict=True)
        ]


class Indexed(Protocol):
    """What `batches` reads: images by their places."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image."""
        ...

    @property
    def skip_broken(self) -> bool:
        """Whether broken files are left out."""
        ...

    @property
    def skipped(self) -> list[Fault]:
        """The faults of those that were."""
        ...

    def __len__(self) -> int: ...

    def item(self, index: int, seed: int = 0, epoch: int = 0) -> Item:
        """See `ImageData.item`."""
        ...


def batch_count(data: Sized, size: int, *, drop_last: bool = False) -> int:
    """How many batches an epoch has, the same in every process."""
    return len(data) // size if drop_last else -(-len(data) // size)


def batches(
    data: Indexed,
    size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = False,
    process: int = 0,
    processes: int = 1,
    start: int = 0,
    drop_last: bool = False,
    workers: int = 0,
) -> Iterator[Batch]:
    """One epoch of a data set, batch by batch.

    The order is a permutation seeded by (seed, epoch). It is cut into batches of ``size`` over all
    processes, and each process gets its share of every batch: together they see exactly what one process
    would see, each image once. Every process gets the same number of batches, so that they stay in step;
    where a batch has fewer images than there are processes, some shares are empty.

    Args:
        data: The images. Where it skips broken files, those are noted in ``data.skipped``, and the batch has
            fewer images.
        size: Images in a batch, over all processes; the last batch may have fewer.
        seed: Seed of the order and of all that is random in the images.
        epoch: Number of the epoch; each has another order and other draws.
        shuffle: Whether the order is random, or that of the data.
        process: Number of this process, from 0.
        processes: How many there are.
        start: Batches to leave out at the beginning, to go on where an earlier run stopped.
        drop_last: Leave out a last batch that has fewer than ``size`` images.
        workers: Processes that read ahead; 0 reads when a batch is asked for. The batches are the same.

    Raises:
        InputError: A file is broken (says which) and ``data`` does not skip it; a size is less than 1.
    """
    if size < 1:
        raise InputError(Fault(f"a batch of {size} images: expected 1 or more"))
    if not 0 <= process < processes:
        raise InputError(Fault(f"process {process} of {processes}: expected 0 to {processes - 1}"))
    count = batch_count(data, size, drop_last=drop_last)
    shares = _shares(_order(len(data), seed, epoch, shuffle), size, process, processes)[start:count]
    reader = _Reader(data, seed, epoch)
    for number, (images, faults) in enumerate(_loaded(reader, shares, workers), start):
        for fault in faults:
            if not data.skip_broken:
                raise InputError(fault)
            if fault not in data.skipped:
                data.skipped.append(fault)
        yield replace(images, seed=mixed_seed(seed, epoch, number, BATCH_STREAM))


def _order(count: int, seed: int, epoch: int, shuffle: bool) -> list[int]:
    """The places of an epoch's images, in turn."""
    if not shuffle:
        return list(range(count))
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    return torch.randperm(count, generator=generator).tolist()


def _shares(order: list[int], size: int, process: int, processes: int) -> list[list[int]]:
    """This process's part of every batch; the parts' lengths differ by one at most."""
    shares = []
    for begin in range(0, len(order), size):
        batch = order[begin : begin + size]
        shares.append(batch[share(len(batch), process, processes)])
    return shares


def share(count: int, process: int, processes: int) -> slice:
    """A process's part of a batch of ``count`` images."""
    return slice(count * process // processes, count * (process + 1) // processes)


class _Reader(Dataset[Item | Fault]):
    """An image, or what is wrong with its file: a value either way, which other processes can send."""

    def __init__(self, data: Indexed, seed: int, epoch: int) -> None:
        self.data, self.seed, self.epoch = data, seed, epoch

    def __getitem__(self, index: int) -> Item | Fault:
        try:
            return self.data.item(index, self.seed, self.epoch)
        except InputError as error:
            return error.faults[0]

    def joined(self, items: Sequence[Item | Fault]) -> tuple[Batch, list[Fault]]:
        """A batch of the images that could be read, and the faults of the others."""
        read = [item for item in items if isinstance(item, Item)]
        images = torch.stack([item.image for item in read]) if read else torch.empty(0, *self.data.shape)
        labels = torch.tensor([item.label for item in read], dtype=torch.int64)
        indices = torch.tensor([item.index for item in read], dtype=torch.int64)
        return Batch(images, labels, indices), [item for item in items if isinstance(item, Fault)]


def _loaded(
    reader: _Reader, shares: Sequence[list[int]], workers: int
) -> Iterator[tuple[Batch, list[Fault]]]:
    if workers == 0:
        for share in shares:
            yield reader.joined([reader[index] for index in share])
        return
    yield from DataLoader(
        reader,
        batch_sampler=shares,
        collate_fn=reader.joined,
        num_workers=workers,
        generator=torch.Generator(),  # its own: torch's global random state stays as it was
    )
