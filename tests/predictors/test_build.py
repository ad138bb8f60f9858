"""Predictors: sizes worked out, and the count C of `normalized`."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from pcgraph.building.graph import assemble
from pcgraph.errors import SpecError
from pcgraph.graph import PCGraph
from pcgraph.predictors.build import build_predictor
from pcgraph.predictors.reach import count_reach
from pcgraph.spec import parse_spec


def graph_of(source: list[int], target: list[int], predictor: object, **edge: object) -> PCGraph:
    return assemble(
        parse_spec(
            {
                "name": "two",
                "nodes": {"a": {"shape": source}, "b": {"shape": target}},
                "edges": [{"source": "a", "target": "b", "predictor": predictor, **edge}],
                "dynamics": {"rule": "energy"},
            }
        )
    )


def built(source: list[int], target: list[int], predictor: object) -> nn.Module:
    graph = graph_of(source, target, predictor)
    return build_predictor(graph.edges["a->b"], graph)


@pytest.mark.parametrize(
    ("source", "target", "predictor", "kinds"),
    [
        ([1, 28, 28], [256], ["Flatten", "Linear", "Tanh"], {"1.in_features": 784, "1.out_features": 256}),
        ([8, 4, 4], [3, 8, 8], [{"ConvTranspose2d": {"kernel_size": 2, "stride": 2}}], {"in_channels": 8}),
        ([10], [1, 6, 6], ["Linear", "Unflatten"], {"0.out_features": 36}),
        (
            [8, 4, 4],
            [3, 8, 8],
            ["BatchNorm2d", "ReLU", "Upsample", {"Conv2d": {"kernel_size": 3, "padding": 1}}],
            {"0.num_features": 8, "3.out_channels": 3},
        ),
        (
            [5],
            [4],
            [{"Linear": {"out_features": 9}}, {"LayerNorm": {}}, "GELU", "Linear"],
            {"3.in_features": 9, "3.out_features": 4},
        ),
    ],
)
def test_sizes_left_out_are_worked_out(source, target, predictor, kinds) -> None:
    module = built(source, target, predictor)
    assert module(torch.randn(3, *source)).shape == (3, *target)
    for name, size in kinds.items():
        owner, _, attribute = name.rpartition(".")
        assert getattr(module.get_submodule(owner), attribute) == size


@pytest.mark.parametrize(
    ("source", "target", "predictor", "message"),
    [
        (
            [8, 4, 4],
            [3, 9, 9],
            [{"ConvTranspose2d": {"kernel_size": 2, "stride": 2}}],
            "edges[0].predictor: edge 'a->b' predicts shape (3, 8, 8), but node 'b' has shape (3, 9, 9)",
        ),
        ([10], [1, 6, 6], [{"Linear": {"out_features": 36}}], "End the predictor with 'Unflatten'."),
        ([10], [5], ["Linear", "Linear"], "Linear needs 'out_features'; it is worked out for the last layer"),
        ([10], [5], [{"Conv2d": {"kernel_size": 3}}], "Conv2d does not fit states of shape (10,)"),
        ([8, 4, 4], [3, 8, 8], ["ConvTranspose2d"], "ConvTranspose2d needs 'kernel_size'"),
    ],
)
def test_a_predictor_that_does_not_fit_is_said_with_its_place(source, target, predictor, message) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        built(source, target, predictor)


def test_a_predictor_never_overwrites_the_state() -> None:
    module = built([6], [6], ["ReLU", "Linear"])
    state = torch.randn(2, 6)
    before = state.clone()
    module(state)
    assert torch.equal(state, before)


def test_several_sources_are_joined_along_the_first_dimension() -> None:
    spec = parse_spec(
        {
            "name": "three",
            "nodes": {"a": {"shape": [2]}, "b": {"shape": [3]}, "c": {"shape": [4]}},
            "edges": [{"source": ["a", "b"], "target": "c", "predictor": ["Linear"]}],
            "dynamics": {"rule": "energy"},
        }
    )
    graph = assemble(spec)
    module = build_predictor(graph.edges["a+b->c"], graph)
    a, b = torch.randn(5, 2), torch.randn(5, 3)
    torch.testing.assert_close(module(a, b), module.module(torch.cat([a, b], dim=1)))


# C: the published package's arithmetic for its defaults and for PVGG16, kernel area x channels out.
@pytest.mark.parametrize(
    ("source", "target", "predictor", "count"),
    [
        ([8, 16, 16], [3, 16, 16], [{"ConvTranspose2d": {"kernel_size": 5, "padding": 2}}], 5 * 5 * 3),
        ([12, 8, 8], [8, 16, 16], "auto", 6 * 6 * 8),
        (
            [8, 28, 28],
            [4, 56, 56],
            [{"ConvTranspose2d": {"kernel_size": 14, "stride": 2, "padding": 6}}, "ReLU"],
            14 * 14 * 4,
        ),
        (
            [8, 3, 3],
            [4, 6, 6],
            [{"ConvTranspose2d": {"kernel_size": 14, "stride": 2, "padding": 6}}],
            6 * 6 * 4,
        ),
        ([10], [1, 6, 6], ["Linear", "Unflatten", "Tanh"], 36),
        ([10], [10], ["Tanh"], 1),
    ],
)
def test_reach_is_counted_exactly(source, target, predictor, count) -> None:
    module = built(source, target, predictor)
    assert count_reach(module, [tuple(source)]) == count
    assert count_reach(module, [tuple(source)]) == count


def test_reach_of_a_linear_predictor_equals_what_moving_the_unit_changes() -> None:
    module = built([4, 7, 5], [3, 14, 9], "auto").double()
    still = torch.zeros(1, 4, 7, 5, dtype=torch.float64)
    moved = still.clone()
    moved[0, 2, 3, 2] = 1.0
    changed = (module(moved) - module(still)).abs() > 1e-12
    assert count_reach(module, [(4, 7, 5)]) == int(changed.sum())


def test_reach_sees_through_dead_and_nonlinear_units() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 7), nn.ReLU())
    assert count_reach(module, [(6,)]) == 7
