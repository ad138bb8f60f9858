"""Predictors whose large kernels are computed in tiles by a compiled step, which is given the weights.

They are arguments of the step and not constants of it, so that they are there once.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pcgraph.predictors.fast.plain import is_plain
from pcgraph.predictors.fast.tiled_layer import TiledConvTranspose2d
from pcgraph.predictors.fast.tiles import Weights

Transformed = Mapping[tuple[int, int], Weights]
"""Transformed weights by the layer's place in a predictor and the side of the tiles."""
Lent = Mapping[tuple[int, int], tuple[Tensor, Tensor, Tensor]]
"""Their tensors."""


def transformed(predictor: nn.Module, batch: int) -> Transformed:
    """The transformed weights of all tiles that were chosen for a batch size."""
    weights = {
        (place, tile): layer.transformed(tile)
        for place, layer in enumerate(_layers(predictor))
        if isinstance(layer, TiledConvTranspose2d) and layer.is_constant
        for tile in _chosen(layer, batch)
    }
    return weights if weights and is_plain(*predictor.modules()) else {}


def _chosen(layer: TiledConvTranspose2d, batch: int) -> list[int]:
    return sorted({tile for shape, tile in (layer.tiles or {}).items() if tile and shape[0] == batch})


def lent(predictor: nn.Module, weights: Transformed, tensors: Lent) -> nn.Module:
    """The predictor with transformed weights of which these are the tensors."""
    given = {key: one.lent(tensors[key]) for key, one in weights.items()}
    layers = [
        _Lent(layer, {tile: one for (where, tile), one in given.items() if where == place})
        if isinstance(layer, TiledConvTranspose2d)
        else layer
        for place, layer in enumerate(_layers(predictor))
    ]
    return nn.Sequential(*layers)


def _layers(predictor: nn.Module) -> list[nn.Module]:
    return list(predictor) if type(predictor) is nn.Sequential else [predictor]


class _Lent(nn.Module):
    """A layer with transformed weights by the side of the tiles; without any it is computed directly."""

    def __init__(self, layer: TiledConvTranspose2d, weights: Mapping[int, Weights]) -> None:
        super().__init__()
        self.layer, self.weights = layer, weights

    def forward(self, input: Tensor) -> Tensor:
        """See `TiledConvTranspose2d`, whose own weight is not looked at."""
        tile = (self.layer.tiles or {}).get(tuple(input.shape))
        known = self.weights.get(tile) if tile else None
        if tile is None or known is None:
            output: Tensor = self.layer(input)
            return output
        return self.layer.in_tiles(input, tile, known)
