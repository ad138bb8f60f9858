"""Large transposed convolutions by algorithms with fewer multiplications."""

from pcgraph.convolution.choice import Choice, Choices, choose_convolutions
from pcgraph.convolution.layer import TiledConvTranspose2d
from pcgraph.convolution.measure import Way

__all__ = ["Choice", "Choices", "TiledConvTranspose2d", "Way", "choose_convolutions"]
