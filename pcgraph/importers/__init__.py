"""Configurations and weights of other packages, as specs and weights of pcgraph."""
