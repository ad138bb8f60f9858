"""Images that a program hands over: tensors, data sets of torch, and loaders."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, Subset, TensorDataset

from pcgraph.datasets.batches import BATCH_STREAM, Batch, share
from pcgraph.datasets.data import ImageData, Item
from pcgraph.datasets.noise import mixed_seed
from pcgraph.errors import Fault, InputError

_SAMPLE, _LOADER = 1 << 17, 1 << 18  # streams far from those of `ImageData` and of batches


@dataclass(frozen=True, eq=False)
class Samples:
    """A data set of torch; what it gives is the network's input as it stands.

    What it draws from torch's random numbers is drawn anew for each (seed, epoch, place).

    Attributes:
        samples: Gives an image, or an image and its class.
        shape: Shape of an image.
        name: What the data is called in a record.
        skip_broken: It skips none.
        skipped: None.
        digest: SHA-256 of all of them, where that is known.
    """

    samples: Dataset[Any]
    shape: tuple[int, ...]
    name: str
    skip_broken: bool = False
    skipped: list[Fault] = field(default_factory=list)
    digest: str | None = None

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def at(self, indices: Iterable[int]) -> Samples:
        """Some of the samples, in the order of ``indices``."""
        places = [int(index) for index in indices]
        digest = self.digest and hashlib.sha256(f"{self.digest} {places}".encode()).hexdigest()
        return replace(self, samples=Subset(self.samples, places), digest=digest)

    def item(self, index: int, seed: int = 0, epoch: int = 0) -> Item:
        """One image.

        Raises:
            InputError: It is no tensor of floating-point numbers of the network's shape, or its class is no
                whole number.
        """
        where = f"{self.name}[{index}]"
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mixed_seed(seed, epoch, index, _SAMPLE))
            image, label = _parts(self.samples[index], where)
        if label is None:
            return Item(_checked(image, self.shape, where), -1, index)
        try:
            return Item(_checked(image, self.shape, where), operator.index(label), index)
        except TypeError:
            message = f"the class is of type {type(label).__name__}, expected a whole number"
            raise InputError(Fault(message, where=where)) from None


@dataclass(frozen=True, eq=False)
class Loaded:
    """A loader: its batches, as they come.

    The order is drawn anew for each (seed, epoch) from torch's random numbers, and so is what the data set
    draws, unless the loader or its sampler has a generator of its own.

    Attributes:
        loader: Gives images, or images and their classes.
        shape: Shape of an image.
        name: What the data is called in a record.
    """

    loader: DataLoader[Any]
    shape: tuple[int, ...]
    name: str

    def __len__(self) -> int:
        return len(self.loader.dataset)  # type: ignore[arg-type]

    @property
    def repeats(self) -> bool:
        """Whether the order of an epoch can be found again."""
        return self.loader.generator is None and getattr(self.loader.sampler, "generator", None) is None

    def batches(self, *, seed: int, epoch: int, process: int, processes: int, start: int) -> Iterator[Batch]:
        """One epoch; see `pcgraph.datasets.batches`. Each process loads all and takes its share."""
        if hasattr(self.loader.sampler, "set_epoch"):
            self.loader.sampler.set_epoch(epoch)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mixed_seed(seed, epoch, _LOADER))
            loading = iter(self.loader)
        seen = 0
        for number in range(len(self.loader)):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(mixed_seed(seed, epoch, number, _LOADER))
                given = next(loading, None)
            if given is None:
                return
            batch = self._batch(given, seen, mixed_seed(seed, epoch, number, BATCH_STREAM))
            seen += len(batch)
            if number >= start:
                mine = share(len(batch), process, processes)
                parts = (batch.images[mine], batch.labels[mine], batch.indices[mine])
                yield Batch(*parts, seed=batch.seed)

    def _batch(self, given: Any, seen: int, seed: int) -> Batch:
        where = f"a batch of {self.name}"
        images, labels = (given.images, given.labels) if isinstance(given, Batch) else _parts(given, where)
        images = _checked(images, (-1, *self.shape), where)
        if labels is None:
            labels = torch.full((len(images),), -1)
        fits = isinstance(labels, Tensor) and labels.shape == (len(images),)
        if not fits or labels.is_floating_point() or labels.is_complex():
            message = f"expected the classes of {len(images)} images as whole numbers, got {_kind(labels)}"
            raise InputError(Fault(message, where=where))
        return Batch(images, labels.long(), torch.arange(seen, seen + len(images)), seed)


Images = ImageData | Samples | Dataset[Any] | DataLoader[Any] | Tensor | tuple[Tensor, Tensor]
"""What there is to train on: `open_data`'s, a file of tensors, a data set of torch, a loader, images, or
images and labels."""


def given_images(data: Images, shape: tuple[int, ...], processes: int = 1) -> ImageData | Samples | Loaded:
    """What there is to train on, as the engine takes it.

    Args:
        data: As it was given.
        shape: Of the network's input, without the batch.
        processes: How many share the data.

    Raises:
        InputError: It is nothing of the kind, or nothing that can be shared or counted.
    """
    if isinstance(data, (ImageData, Samples)):
        return data
    if isinstance(data, DataLoader):
        return _loaded(data, shape, processes)
    if isinstance(data, Tensor):
        return Samples(TensorDataset(data), shape, "tensor")
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        if len(data[0]) != len(data[1]):
            raise InputError(f"{len(data[0])} images and {len(data[1])} labels: expected as many")
        return Samples(TensorDataset(*data), shape, "tensors")
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return Samples(data, shape, type(data).__name__)
    hint = "Give a Dataset, a DataLoader, a tensor of images, (images, labels), or `open_data(...)`."
    raise InputError(Fault(f"data of type {type(data).__name__} cannot be trained on", hint=hint))


def _loaded(loader: DataLoader[Any], shape: tuple[int, ...], processes: int) -> Loaded:
    name = f"DataLoader of {type(loader.dataset).__name__}"
    try:
        len(loader), len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:
        hint = "Give its data set a `__len__`: the learning rate follows the number of batches."
        raise InputError(Fault("the loader has no length", hint=hint, where=name)) from None
    own = isinstance(loader.sampler, DistributedSampler) or isinstance(loader.dataset, IterableDataset)
    if processes > 1 and own:
        message = "the loader may share its images among the processes itself, and so does the training"
        raise InputError(
            Fault(message, hint="Give a loader of all images, without such a sampler.", where=name)
        )
    return Loaded(loader, shape, name)


def _parts(sample: Any, where: str) -> tuple[Any, Any]:
    """The image(s), and the class(es) or None."""
    if isinstance(sample, (tuple, list)) and sample:
        return sample[0], sample[1] if len(sample) > 1 else None
    if isinstance(sample, Tensor):
        return sample, None
    hint = "Let the data set (or the loader's collate_fn) give tensors: an image, or (image, class)."
    raise InputError(Fault(f"{_kind(sample)} is neither an image nor (image, class)", hint=hint, where=where))


def _checked(image: Any, shape: tuple[int, ...], where: str) -> Tensor:
    if not isinstance(image, Tensor):
        hint = "Give the data set a transform that makes tensors, as torchvision's ToTensor does."
        raise InputError(Fault(f"expected a tensor, got {_kind(image)}", hint=hint, where=where))
    if not image.is_floating_point():
        hint = "Prepare the images as the network takes them, most often from 0 to 1 and then normalised."
        raise InputError(Fault(f"expected floating-point numbers, got {image.dtype}", hint=hint, where=where))
    fits = image.dim() == len(shape) and all(b in (-1, a) for a, b in zip(image.shape, shape, strict=True))
    if not fits:
        wanted = ", ".join("batch" if side == -1 else str(side) for side in shape)
        message = f"an image of shape {tuple(image.shape)}, and the network takes ({wanted})"
        raise InputError(Fault(message, where=where))
    return image


def _kind(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return f"a {type(value).__name__}{shape}"
