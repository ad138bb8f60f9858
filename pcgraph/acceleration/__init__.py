"""Large transposed convolutions by algorithms with fewer multiplications."""

from pcgraph.acceleration.choose import Choice, Choices, choose_convolutions
from pcgraph.acceleration.measure import Way
from pcgraph.predictors.fast.tiled_layer import TiledConvTranspose2d

__all__ = ["Choice", "Choices", "TiledConvTranspose2d", "Way", "choose_convolutions"]
