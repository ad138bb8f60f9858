"""Learning: the weights of a network follow the energy, by inference learning and its variants."""

from pcgraph.learning.loop import Update, batches, learn, weight_gradients
from pcgraph.learning.rules import RULES
from pcgraph.learning.stability import stability_margin

__all__ = ["RULES", "Update", "batches", "learn", "stability_margin", "weight_gradients"]
