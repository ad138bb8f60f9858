"""The section of a study file that has wirings searched for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from pcgraph.spec import Edge
from pcgraph.spec.model import Model
from pcgraph.spec.source import show
from pcgraph.spec.values import Count, refuse
from pcgraph.study.given import Name, Seed, counted, distinct

ACCURACY = "accuracy"
LESS = ("multiply_adds", "spectral_radius")
"""Objectives of which less is better."""
FIRST_SEED = 1_000_000
"""Of a search, so that seeds that are added to the study later are still fresh."""


class Range(Model):
    """Real numbers from `low` to `high`."""

    low: Annotated[float, Field(allow_inf_nan=False)]
    """The smallest."""
    high: Annotated[float, Field(allow_inf_nan=False)]
    """The largest."""
    log: bool = False
    """Drawn evenly on the scale of logarithms."""

    @model_validator(mode="after")
    def _some(self) -> Range:
        if self.low >= self.high:
            hint = "Write a 'high' above it, or a list of values."
            raise refuse(f"an empty range: from {self.low:g} to {self.high:g}", hint)
        if self.log and self.low <= 0:
            raise refuse(f"no logarithm of {self.low:g}", "Write a 'low' above 0.")
        return self


def _unlike(values: list[Any]) -> list[Any]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise refuse(f"{show(value)} is there twice")
    return values


def _form(value: Any) -> str:
    return "<range>" if isinstance(value, (dict, Range)) else "<values>"


Values = Annotated[list[Any], Field(min_length=1), AfterValidator(_unlike)]
Drawn = Annotated[
    Annotated[Range, Tag("<range>")] | Annotated[Values, Tag("<values>")],
    Discriminator(_form),
]
"""A range, or the values that there are."""


def _edges_form(value: Any) -> str:
    return "<edges>" if isinstance(value, list) else "<all>"


def _other_ends(edges: list[Edge]) -> list[Edge]:
    ends = [(edge.sources, edge.target) for edge in edges]
    if len(set(ends)) < len(ends):
        raise refuse("two edges have the same ends", "Values of an edge are drawn by 'each'.")
    return edges


SomeEdges = Annotated[
    Annotated[Literal["all"], Tag("<all>")]
    | Annotated[list[Edge], Field(min_length=1), AfterValidator(_other_ends), Tag("<edges>")],
    Discriminator(_edges_form),
]


class Search(Model):
    """Wirings that Optuna proposes; the best becomes an arm, which is measured with seeds of its own."""

    trials: Count
    """Proposals."""
    batch: Count = 10
    """Proposals that are made at a time, from the results of those before."""
    sampler: str | dict[str, dict[str, Any]] = "TPESampler"
    """What makes them: a sampler of Optuna; `{TPESampler: {multivariate: true}}` gives it options."""
    seed: Seed = 0
    """Of the sampler."""
    seeds: Annotated[
        list[Seed],
        BeforeValidator(lambda value: counted(value, FIRST_SEED)),
        Field(min_length=1),
        AfterValidator(distinct),
    ] = [FIRST_SEED]
    """Repetitions of a proposal, none of which is a seed of the study: a number (1000000, 1000001, ...), or
    the seeds themselves."""
    edges: SomeEdges | None = None
    """Edges of which any may be there or not: a list, or `all` that lead from a node to one below it."""
    feedback: Values | None = None
    """Or: patterns and lists of edges of which one is taken, as in an arm."""
    each: dict[Literal["gain", "delay", "error"], Drawn] = {}
    """Values that are drawn for each edge that is there."""
    fields: dict[str, Drawn] = {}
    """Values that are drawn once: as in a grid, a field of all edges (`delay`, `gain`, `error`, `predictor`),
    or a path in the spec, such as `dynamics.feedback`."""
    objectives: Annotated[list[str], Field(min_length=1), AfterValidator(_unlike)] = ["accuracy"]
    """What counts: `accuracy`, the mean over the noisy conditions of `evaluate`, or that under one of them,
    such as `gaussian:0.5`; `multiply_adds` of a step; `spectral_radius` (of both, less is better). The first
    is an accuracy. The best in it becomes the arm; of equal ones, the next objectives decide."""
    limit: Count | None = None
    """So many of the images that are held out of the training, chosen at random. Left out: as many as
    `evaluate.limit`, or all."""
    prune: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of each batch that is measured under all conditions: those best under the first. Left out:
    all."""
    arm: Name = "found"
    """What the best is called in the study."""

    @model_validator(mode="after")
    def _wirings(self) -> Search:
        if (self.edges is None) == (self.feedback is None):
            hint = "'edges': any of them may be there; 'feedback': one of these wirings is taken."
            raise refuse("a search has one of edges, feedback", hint)
        if isinstance(self.sampler, dict) and len(self.sampler) != 1:
            raise refuse("a search has one sampler", "For example {TPESampler: {multivariate: true}}.")
        if both := self.each.keys() & self.fields.keys():
            raise refuse(f"'{min(both)}' is drawn twice", "Write it under 'each' or under 'fields'.")
        return self
