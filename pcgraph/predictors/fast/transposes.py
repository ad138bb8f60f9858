"""Predictors whose transpose is known: linear layers and, in compiled steps, constant convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgraph.predictors.fast.plain import is_plain
from pcgraph.predictors.fast.resizing import taps
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d


class Affine(nn.Module):
    """A predictor ``A x + b``: called, it predicts; `pull` applies the transpose of A.

    What autograd would make of the prediction is the same, but for rounding, and slower: the compiler packs
    only weights that it finds in a plain convolution.
    """

    bias: Tensor | None

    def pull(self, cotangent: Tensor) -> Tensor:
        """``A^T cotangent``: from the shape of a prediction to the shape of the source."""
        raise NotImplementedError


def transpose(predictor: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What carries an error of a prediction back to its source, if it is known without differentiating."""
    if isinstance(predictor, Affine):
        return predictor.pull
    if type(predictor) is nn.Linear and is_plain(predictor):
        return lambda cotangent: torch.matmul(cotangent, predictor.weight)
    return None


def affine(predictor: nn.Module) -> Affine | None:
    """The function that a predictor is now; None where it is best left as it is."""
    if not is_plain(*predictor.modules()):
        return None
    if isinstance(predictor, nn.Sequential) and len(predictor) == 1:
        predictor = predictor[0]
    if type(predictor) is nn.ConvTranspose2d:
        plain = predictor.stride == predictor.dilation == (1, 1) and predictor.groups == 1
        cuts = zip(map(int, predictor.padding), predictor.kernel_size, strict=True)
        return Convolved(predictor) if plain and all(cut < size for cut, size in cuts) else None
    if isinstance(predictor, UpsampledConvTranspose2d) and predictor.doubles:
        convolution = predictor[1]
        assert isinstance(convolution, nn.ConvTranspose2d)
        return Doubled(convolution, *predictor.grid)
    return None


class Convolved(Affine):
    """A transposed convolution without a stride, as the plain convolution that it is."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.weight = _constant(layer.weight.flip(2, 3).transpose(0, 1))
        self.transposed = _constant(layer.weight)
        self.bias = None if layer.bias is None else _constant(layer.bias)
        down, right = int(layer.padding[0]), int(layer.padding[1])
        self.around = layer.kernel_size[0] - 1 - down, layer.kernel_size[1] - 1 - right
        self.around_transposed = down, right

    def forward(self, x: Tensor) -> Tensor:
        """Predict (batch, target channels, height, width)."""
        return F.conv2d(x, self.weight, self.bias, padding=self.around)

    def pull(self, cotangent: Tensor) -> Tensor:
        """See `Affine.pull`."""
        return F.conv2d(cotangent, self.transposed, padding=self.around_transposed)


class Doubled(Affine):
    """Bilinear doubling and a 3 x 3 transposed convolution, by `products`: nine a pixel instead of 36.

    What `by_products` does with dense matrices is done here in loops, which the compiler joins.

    Args:
        layer: The convolution, of padding 1.
        height: Of the small map.
        width: Of the small map.
    """

    def __init__(self, layer: nn.ConvTranspose2d, height: int, width: int) -> None:
        super().__init__()
        products = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)[..., None, None]
        self.products = _constant(products)
        self.transposed = _constant(products.transpose(0, 1))
        self.bias = None if layer.bias is None else _constant(layer.bias)
        self.rows = Doubling(height, 1, layer.weight)
        self.columns = Doubling(width, 2, layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Predict (batch, target channels, 2 height, 2 width)."""
        products = F.conv2d(x, self.products).permute(0, 2, 3, 1)
        products = products.reshape(*products.shape[:3], 3, 3, -1)
        predicted = self.columns.spread(self.rows.spread(products))
        predicted = predicted if self.bias is None else predicted + self.bias
        return predicted.permute(0, 3, 1, 2)

    def pull(self, cotangent: Tensor) -> Tensor:
        """See `Affine.pull`."""
        products = self.rows.gather(self.columns.gather(cotangent.permute(0, 2, 3, 1)))
        return F.conv2d(products.flatten(3).permute(0, 3, 1, 2), self.transposed)


class Doubling(nn.Module):
    """Along one dimension: what each tap of the kernel reads is doubled, shifted by the tap, and added up.

    Args:
        size: Number of pixels before the doubling.
        dim: 1 for the rows, which are doubled first, or 2 for the columns.
        like: A tensor of the dtype and on the device.

    Attributes:
        factors: For each tap and offset, by size and phase: by what pixel ``2 i + phase`` of the doubled map
            reads pixel ``i + offset - 1`` of the tap's products.
        transposed: For each phase and offset, by size and tap: by what pixel i of the tap's products is read
            by pixel ``2 (i + offset - 1) + phase`` of the doubled map.
        neighbours: For each offset, by size: ``i + offset - 1``, kept inside; where it was not, the factor is
            zero.
    """

    def __init__(self, size: int, dim: int, like: Tensor) -> None:
        super().__init__()
        self.dim, others = dim, 5 - 2 * dim  # the channels and, of the rows, also the columns and their taps
        read = taps(size, 2 * size).reshape(3, size, 2, size)
        pixel = torch.arange(size)
        below, above = F.pad(read, (1, 1)), F.pad(read, (0, 0, 0, 0, 1, 1))
        factors = torch.stack([below[:, pixel, :, pixel + offset] for offset in range(3)])
        transposed = torch.stack([above[:, pixel + offset, :, pixel] for offset in range(3)])
        factors = factors.permute(2, 0, 1, 3).to(like).reshape(9, size, 2, *[1] * others)
        transposed = transposed.permute(3, 0, 1, 2).to(like)
        transposed = transposed.reshape(6, size, *[1] * (2 - dim), 3, *[1] * (3 - dim))
        self.factors = nn.ParameterList(map(_constant, factors))
        self.transposed = nn.ParameterList(map(_constant, transposed))
        neighbours = [(pixel + offset - 1).clamp(0, size - 1).to(like.device) for offset in range(3)]
        self.neighbours = nn.ParameterList(map(_constant, neighbours))

    def spread(self, products: Tensor) -> Tensor:
        """From (batch, height, width, 3 taps, ...) to the same doubled and without the taps."""
        reads = [self._read(one, offset) for one in products.unbind(3) for offset in range(3)]
        doubled = _weighted(self.factors, [read.unsqueeze(self.dim + 1) for read in reads])
        return doubled.flatten(self.dim, self.dim + 1)

    def gather(self, doubled: Tensor) -> Tensor:
        """The transpose: from (batch, height, width, ...) to the same halved, and 3 taps."""
        phases = doubled.reshape(*doubled.shape[: self.dim], -1, 2, *doubled.shape[self.dim + 1 :])
        reads = [self._read(one, offset) for one in phases.unbind(self.dim + 1) for offset in range(3)]
        return _weighted(self.transposed, [read.unsqueeze(3) for read in reads])

    def _read(self, x: Tensor, offset: int) -> Tensor:
        return x if offset == 1 else x.index_select(self.dim, self.neighbours[offset])


def _weighted(factors: Iterable[Tensor], reads: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, [factor * read for factor, read in zip(factors, reads, strict=True)])


def _constant(tensor: Tensor) -> nn.Parameter:
    """A tensor of its own that does not change, as the compiler recognises it."""
    with torch.inference_mode(False), torch.no_grad():
        own = tensor.detach().clone(memory_format=torch.contiguous_format)
        if own.dim() == 4:
            own = own.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(own, requires_grad=False)
