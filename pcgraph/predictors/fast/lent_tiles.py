"""Predictors whose large kernels are computed in tiles by a compiled step, which is given the weights.

They are arguments of the step and not constants of it, so that they are there once.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pcgraph.predictors.fast.plain import is_plain
from pcgraph.predictors.fast.tiled_layer import TiledConvTranspose2d

Lent = Mapping[tuple[int, int], tuple[Tensor, Tensor, Tensor]]
"""Transformed weights by the layer's place in a predictor and the side of the tiles."""


def transformed(predictor: nn.Module, batch: int) -> Lent:
    """The transformed weights of all tiles that were chosen for a batch size."""
    if not is_plain(*predictor.modules()):
        return {}
    return {
        (place, tile): layer.transformed(tile).tensors
        for place, layer in enumerate(_layers(predictor))
        if isinstance(layer, TiledConvTranspose2d) and layer.is_constant
        for tile in sorted({tile for shape, tile in (layer.tiles or {}).items() if tile and shape[0] == batch})
    }


def lent(predictor: nn.Module, weights: Lent) -> nn.Module:
    """The predictor with these transformed weights."""
    places = {place for place, _ in weights}
    layers = [
        _Lent(layer, {tile: tensors for (where, tile), tensors in weights.items() if where == place})
        if isinstance(layer, TiledConvTranspose2d) and place in places
        else layer
        for place, layer in enumerate(_layers(predictor))
    ]
    return nn.Sequential(*layers)


def _layers(predictor: nn.Module) -> list[nn.Module]:
    return list(predictor) if type(predictor) is nn.Sequential else [predictor]


class _Lent(nn.Module):
    """A layer with transformed weights by the side of the tiles."""

    def __init__(self, layer: TiledConvTranspose2d, weights: Mapping[int, tuple[Tensor, Tensor, Tensor]]) -> None:
        super().__init__()
        self.layer, self.weights = layer, weights

    def forward(self, input: Tensor) -> Tensor:
        tile = (self.layer.tiles or {}).get(tuple(input.shape))
        if tile is None:
            output: Tensor = self.layer(input)
            return output
        return self.layer.in_tiles(input, tile, self.layer.transformed(tile).lent(self.weights[tile]))
