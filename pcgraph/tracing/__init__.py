"""From a model to its table of candidate nodes, and to the programs of its drive."""

from pcgraph.tracing.drive import Drive, Stage
from pcgraph.tracing.facts import categories_of, preprocess_of
from pcgraph.tracing.models import load_model
from pcgraph.tracing.suggesting import suggest_nodes
from pcgraph.tracing.table import Candidate, Table, trace
from pcgraph.tracing.tracer import symbolic_trace

__all__ = [
    "Candidate",
    "Drive",
    "Stage",
    "Table",
    "categories_of",
    "load_model",
    "preprocess_of",
    "suggest_nodes",
    "symbolic_trace",
    "trace",
]
