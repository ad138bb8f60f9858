"""Training: one engine for everything in a network that can learn."""

from pcgraph.training.engine import Fitted, fit
from pcgraph.training.gradients import differentiate
from pcgraph.training.losses import epoch_means
from pcgraph.training.task import Task

__all__ = ["Fitted", "Task", "differentiate", "epoch_means", "fit"]
