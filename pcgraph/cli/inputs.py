"""What ``pcgraph run`` is given: images by their names, or tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pcgraph.datasets.noise import Noise
    from pcgraph.network import PCNetwork
    from pcgraph.spec import Preprocess


@dataclass(frozen=True)
class Inputs:
    """What is given to a network: image files, or tensors (inputs, *shape) by the names of their files."""

    paths: Sequence[Path]
    preprocess: Preprocess
    shape: tuple[int, ...]
    noise: Noise | None
    seed: int
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths) + sum(len(tensor) for tensor in self.tensors.values())

    def batches(self, size: int) -> Iterable[tuple[list[str], Tensor]]:
        """Names and inputs, batch by batch."""
        from pcgraph.datasets.images import load_images

        if self.paths:
            return load_images(
                self.paths, self.preprocess, self.shape, batch=size, noise=self.noise, seed=self.seed
            )
        import torch

        names = [
            name if len(tensor) == 1 else f"{name}[{place}]"
            for name, tensor in self.tensors.items()
            for place in range(len(tensor))
        ]
        parts = torch.split(torch.cat(list(self.tensors.values())), size)
        return [(names[i * size : (i + 1) * size], part) for i, part in enumerate(parts)]


def find_inputs(network: PCNetwork, images: Sequence[str], noise: Noise | None, seed: int) -> Inputs:
    """What to run on.

    Raises:
        InputError: There are no such images, or the network takes none.
    """
    import torch

    from pcgraph.datasets import preprocess_for
    from pcgraph.datasets.images import find_images, image_shape
    from pcgraph.datasets.references import part_of
    from pcgraph.datasets.tensors import SUFFIXES, load_tensors
    from pcgraph.errors import Fault, InputError

    shape = network.graph.nodes[network.graph.receiver].shape
    preprocess = preprocess_for(network.spec.backbone)
    if not images:
        images = ["photos"] if len(shape) == 3 and shape[0] in (1, 3) else ["random"]
    if any(part_of(image) for image in images):
        return Inputs([], preprocess, shape, None, seed, named_images(images, shape, preprocess, noise, seed))
    files = [image for image in images if Path(image).suffix.lower() in SUFFIXES and Path(image).is_file()]
    if "random" not in images and not files:
        image_shape(shape)
        return Inputs(find_images(images), preprocess, shape, noise, seed)
    if noise is not None or len(images) > max(len(files), 1):
        what = "--noise" if noise is not None else "images"
        alone = "files of tensors stand" if files else "'random' stands"
        raise InputError(Fault(f"{alone} alone, got {what} besides", hint="Run it once without the other."))
    if files:
        return Inputs(
            [], preprocess, shape, None, seed, {name: load_tensors(Path(name), shape) for name in files}
        )
    generator = torch.Generator().manual_seed(seed)
    return Inputs([], preprocess, shape, None, seed, {"random": torch.randn(1, *shape, generator=generator)})


def named_images(
    images: Sequence[str], shape: tuple[int, ...], preprocess: Preprocess, noise: Noise | None, seed: int
) -> dict[str, Tensor]:
    """Images of data sets (``digits:test:0-9``), by their names: (1, *shape) each.

    Raises:
        InputError: There are no such images, or something else is named besides.
    """
    from pcgraph.datasets import noisy, open_data
    from pcgraph.datasets.references import part_of
    from pcgraph.errors import Fault, InputError

    found: dict[str, Tensor] = {}
    for reference in images:
        part = part_of(reference)
        if part is None:
            hint = "Run it once without the other."
            raise InputError(
                Fault("images of data sets stand alone, got others besides", (), hint, reference)
            )
        data = noisy(open_data(reference, "test", shape=shape, preprocess=preprocess), noise)
        for index in range(len(data)):
            item = data.item(index, seed)
            place = index if data.places is None else int(data.places[index])
            found[f"{part[1]}:{part[2]}:{place}"] = item.image[None]
    return found
