"""A spec and a model become a graph, and a network that can be run."""

from pcgraph.building.network import build

__all__ = ["build"]
