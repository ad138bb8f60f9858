"""The table of layers against torch.nn itself."""

import inspect
from typing import Any

import pytest
from torch import nn

from pcgraph.importers.predify_layers import IN_PLACE
from pcgraph.spec import LAYERS

ADDED = {"inplace", "device", "dtype"}
"""Arguments of torch that a spec never has."""
VALUES: dict[str, Any] = {
    "in_channels": 4, "out_channels": 2, "kernel_size": 3, "stride": [1], "padding": 1, "output_padding": 0,
    "dilation": 1, "groups": 1, "bias": False, "padding_mode": "zeros", "output_size": [2, 2],
    "ceil_mode": True,
    "count_include_pad": False, "divisor_override": 3, "num_features": 4, "eps": 1e-5, "momentum": 0.1,
    "affine": False, "track_running_stats": True, "p": 0.5, "alpha": 1.0, "start_dim": 1, "end_dim": -1,
    "approximate": "tanh", "num_groups": 2, "num_channels": 4, "min_val": -2.0, "max_val": 2.0,
    "normalized_shape": [4], "elementwise_affine": True, "negative_slope": 0.2, "in_features": 4,
    "out_features": 2, "num_parameters": 4, "init": 0.3, "dim": 1, "beta": 2.0, "threshold": 9,
    "unflattened_size": [2, 2], "size": [4, 4], "scale_factor": 2, "mode": "nearest", "align_corners": False,
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_arguments_are_torchs_own_and_in_its_order(name: str) -> None:
    signature = inspect.signature(getattr(nn, name).__init__)
    own = [
        parameter
        for parameter in list(signature.parameters)[1:]
        if parameter not in ADDED
        and signature.parameters[parameter].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert list(LAYERS[name]) == own[: len(LAYERS[name])]


@pytest.mark.parametrize("name", LAYERS)
def test_in_place_is_the_last_argument_by_position(name: str) -> None:
    parameters = list(inspect.signature(getattr(nn, name).__init__).parameters)[1:]
    assert (name in IN_PLACE) == ("inplace" in parameters)
    if name in IN_PLACE:
        assert parameters.index("inplace") == len(LAYERS[name])


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name in LAYERS for argument in LAYERS[name]]
)
def test_values_that_are_accepted_make_a_layer(name: str, argument: str) -> None:
    assert LAYERS[name][argument].accepts(VALUES[argument])
    signature = inspect.signature(getattr(nn, name).__init__)
    needed = [
        parameter.name
        for parameter in list(signature.parameters.values())[1:]
        if parameter.default is inspect.Parameter.empty
        and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert isinstance(getattr(nn, name)(**{key: VALUES[key] for key in {*needed, argument}}), nn.Module)


@pytest.mark.parametrize("value", [None, {}, "five", object(), [None], [[1]], float("nan"), float("inf")])
def test_odd_values_are_refused(value: Any) -> None:
    for name, kinds in LAYERS.items():
        for argument, kind in kinds.items():
            assert not kind.accepts(value), (name, argument)
