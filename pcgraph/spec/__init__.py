"""The spec language: schema, loading, wiring patterns. Imports neither torch nor numpy."""

from pcgraph.spec.backbone import Backbone, Preprocess
from pcgraph.spec.dump import to_yaml
from pcgraph.spec.dynamics import EnergyDynamics, NodeGains, NodeRate, PredifyDynamics
from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import Pattern, Skip
from pcgraph.spec.layers import LAYERS, Layer
from pcgraph.spec.load import SpecLike, as_spec, load_spec, parse_spec
from pcgraph.spec.node import Node
from pcgraph.spec.reference import json_schema, reference
from pcgraph.spec.schedule import Schedule
from pcgraph.spec.schema import INPUT, Spec
from pcgraph.spec.training import Fitting, Optimizer, Train, Tune, TuningNoise
from pcgraph.spec.values import Predictor
from pcgraph.spec.wiring import input_node, wire

__all__ = [
    "INPUT",
    "LAYERS",
    "Backbone",
    "Edge",
    "EnergyDynamics",
    "Fitting",
    "Layer",
    "Node",
    "NodeGains",
    "NodeRate",
    "Optimizer",
    "Pattern",
    "Predictor",
    "PredifyDynamics",
    "Preprocess",
    "Schedule",
    "Skip",
    "Spec",
    "SpecLike",
    "Train",
    "Tune",
    "TuningNoise",
    "as_spec",
    "input_node",
    "json_schema",
    "load_spec",
    "parse_spec",
    "reference",
    "to_yaml",
    "wire",
]
