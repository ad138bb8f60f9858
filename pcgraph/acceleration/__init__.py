"""Faster ways to compute the same, found by measuring."""

from pcgraph.acceleration.choose import Choice, Choices, choose_convolutions
from pcgraph.acceleration.measure import Way
from pcgraph.acceleration.optimizing import Optimized, optimize
from pcgraph.acceleration.ways import Measured, Variant
from pcgraph.predictors.fast.tiled_layer import TiledConvTranspose2d

__all__ = [
    "Choice",
    "Choices",
    "Measured",
    "Optimized",
    "TiledConvTranspose2d",
    "Variant",
    "Way",
    "choose_convolutions",
    "optimize",
]
