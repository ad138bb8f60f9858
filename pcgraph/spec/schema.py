"""The spec language: a whole spec file, as a pydantic model; its parts have files of their own.

The descriptions are the reference: ``pcgraph schema`` and docs/ are made from them. What one field
can tell by itself is checked here; what several fields must agree on is in checks.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr, field_validator

from pcgraph.display.text import listing
from pcgraph.errors import Fault, FieldPath
from pcgraph.spec.backbone import Backbone
from pcgraph.spec.dynamics import Dynamics, PredifyDynamics
from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import FeedbackItem
from pcgraph.spec.model import Model
from pcgraph.spec.node import Node
from pcgraph.spec.schedule import Schedule
from pcgraph.spec.source import Source, show
from pcgraph.spec.start import Start
from pcgraph.spec.topology import Topology
from pcgraph.spec.training import Train, Tune
from pcgraph.spec.values import NodeName, refuse, spec_name
from pcgraph.spec.weights import PredictorWeights

INPUT = "input"
"""The node that is the image, in a network with a backbone."""


class Spec(Model):
    """A whole spec file.

    `load_spec` and `parse_spec` make one, and check what its fields must agree on.
    """

    name: Annotated[str, AfterValidator(spec_name)]
    """What the network is called; names run folders and figures."""
    extends: str | None = None
    """Another spec file, relative to this one, or the name of a spec that pcgraph ships, such as
    `digits`: its fields hold unless this file sets them. Mappings are merged, lists and single values
    replaced; another `dynamics.rule` replaces all `dynamics`."""
    reset: list[str] = []
    """With `extends`: fields of that spec to take out before this file is laid over it, such as `weights`
    or `dynamics.nodes`."""
    backbone: Backbone | None = None
    """Left out: the network has no backbone, and `nodes` and `edges` say everything."""
    nodes: Annotated[dict[NodeName, Node], Field(min_length=1)]
    """The states, by their names (Python identifiers). `name: QUALIFIED.NAME` is short for
    `name: {module: QUALIFIED.NAME}`. Without a backbone the first node is the one that receives the
    images of a run."""
    topology: Topology | None = None
    """Areas that a random graph connects; they are added to `nodes`, `edges` and `feedback`."""
    edges: list[Edge] = []
    """Feedforward edges besides the backbone's own."""
    feedback: list[FeedbackItem] = []
    """Patterns, edges or both; an edge replaces the same edge of a pattern. `chain`: each node
    predicts the nodes that feed it directly; `to_input`: each predicts the input; `{skip: k}`: the
    nodes k edges below; `dense`: all nodes below; `none`."""
    start: list[Start] = []
    """First guesses of the states, with `schedule.initial: amortised`: at most one for each node, without
    a cycle. They are no part of the graph, its energy or its dynamics; they learn what inference settles
    on, by the rules `il` and `ipc`."""
    dynamics: Dynamics = PredifyDynamics()
    """The rule that moves the states."""
    schedule: Schedule = Schedule()
    """Order, steps and start."""
    weights: PredictorWeights | None = None
    """Safetensors file with the predictors' weights: a path relative to this file, or
    `package:PACKAGE/FILE`, a file inside an installed Python package; or either in the long form."""
    train: Train | None = None
    """What `pcgraph train` does. Left out: all as below."""
    tune: Tune | None = None
    """What `pcgraph tune` does. Left out: all as below."""

    _source: Source = PrivateAttr(default_factory=Source)

    @field_validator("reset")
    @classmethod
    def _of_another(cls, fields: list[str]) -> list[str]:
        if fields:  # those that a spec extends are taken out before it is read
            raise refuse("there is nothing to take them out of", "Write 'extends', or leave 'reset' out.")
        return fields

    @field_validator("feedback", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if value is None:
            raise refuse(f"expected a pattern or a list, got {show(value)}", "Write 'none' for no feedback.")
        return value if isinstance(value, list) else [value]

    def __eq__(self, other: object) -> bool:
        """Two specs are equal when they say the same, wherever they were read from."""
        return self.__dict__ == other.__dict__ if isinstance(other, Spec) else NotImplemented

    def __repr__(self) -> str:
        named = self.backbone and self.backbone.model
        backbone = [f"backbone {named or 'given as an object'}"] if self.backbone else []
        order = self.schedule.order if isinstance(self.schedule.order, str) else "in blocks"
        parts = [*backbone, f"nodes {listing(self.nodes)}", f"rule {self.dynamics.rule}"]
        return f"Spec '{self.name}': {'; '.join(parts)}; order {order}, {self.schedule.steps} steps"

    __str__ = __repr__

    @property
    def folder(self) -> Path:
        """The folder that relative weight files start from; the current one without a file."""
        return self._source.folder

    def locate(self, path: FieldPath) -> str:
        """`file:line:column` of a field, or of the nearest field around it; empty without a file."""
        return self._source.locate(path)

    def located(self, faults: Iterable[Fault]) -> list[Fault]:
        """The faults with their places in this spec's file(s), where they have none yet."""
        return [fault if fault.where else replace(fault, where=self.locate(fault.path)) for fault in faults]

    def dump(self) -> dict[str, Any]:
        """The spec as plain values in their short forms, without what is default.

        Weight files stay relative to `folder`.
        """
        data: dict[str, Any] = self.model_dump(
            mode="json", exclude_defaults=True, exclude={"extends", "reset"}
        )
        if len(self.feedback) == 1 and not isinstance(self.feedback[0], Edge):
            data["feedback"] = data["feedback"][0]
        if "dynamics" in data:
            data["dynamics"] = {"rule": self.dynamics.rule, **data["dynamics"]}
        return data
