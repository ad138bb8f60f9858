"""`auto` by the layouts of the two states: right places, right sizes, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.errors import SpecError
from pcgraph.graph import Node
from pcgraph.predictors.automatic import FromMap, NoPredictorError, ToMap, automatic
from pcgraph.predictors.masks import MASKED
from pcgraph.predictors.reach import count_reach
from pcgraph.spec.layout import Layout

# Each state with the layout that it has; of the grid of all of them a row or two, and a few columns.
STATES = {
    "vector": ((10,), Layout((10,), 0)),
    "map": ((6, 8, 5), Layout((6, 8, 5), 0)),
    "map of as many channels as rows": ((8, 8, 5), Layout((8, 8, 5), 0)),
    "channels last": ((7, 7, 5), Layout((7, 7, 5), 2)),
    "no channels": ((4, 9), Layout((4, 9), None)),
    "tokens": ((17, 8), Layout((4, 4, 8), 2, 1)),
    "tokens of a wide grid": ((8 + 3, 3), Layout((2, 4, 3), 2, 2, 1)),
    "tokens with features first": ((5, 12), Layout((5, 3, 4), 0)),
    "a flat map": ((5 * 3 * 4,), Layout((5, 3, 4), 0)),
}
SEQUENCES = {
    "channels first": ((6, 20), Layout((6, 20), 0)),
    "as many channels as times": ((9, 9), Layout((9, 9), 0)),
    "channels last": ((11, 4), Layout((11, 4), 1)),
    "with a class token": ((1 + 12, 4), Layout((12, 4), 1, 1)),
    "a sound": ((30,), Layout((30,), None)),
}
VOLUMES = {
    "channels first": ((3, 4, 6, 5), Layout((3, 4, 6, 5), 0)),
    "a cube": ((4, 4, 4, 4), Layout((4, 4, 4, 4), 0)),
    "channels last": ((2, 3, 4, 5), Layout((2, 3, 4, 5), 3)),
}


def node(name: str, state: tuple[tuple[int, ...], Layout]) -> Node:
    return Node(name, state[0], layout=state[1])


def pairs() -> Iterator[Any]:
    for kind, states in (("map", STATES), ("sequence", SEQUENCES), ("volume", VOLUMES)):
        for one, other in itertools.product(states, states):
            yield pytest.param(states[one], states[other], id=f"{kind}: {one} to {other}")
    for name, state in (*SEQUENCES.items(), *VOLUMES.items()):
        yield pytest.param(state, STATES["vector"], id=f"{name} to vector")
        yield pytest.param(STATES["vector"], state, id=f"vector to {name}")


@pytest.mark.parametrize(("source", "target"), pairs())
def test_a_unit_moves_the_places_near_its_own(source: Any, target: Any) -> None:
    torch.manual_seed(0)
    predict = automatic(node("a", source), node("b", target)).double()
    (shape, one), (wanted, other) = source, target
    assert predict(torch.randn(2, *shape, dtype=torch.float64)).shape == (2, *wanted)
    if not (one.grid and other.grid):
        return
    places = list(itertools.product(*map(range, one.grid)))
    for place in (places[0], places[len(places) // 2], places[-1]):
        moved = impulse(shape, one, place)
        with torch.no_grad():
            change = predict(moved) - predict(torch.zeros_like(moved))
        grid = on_the_grid(change[0], wanted, other)
        if not grid.any():  # a place that resizing to a coarser grid passes over
            assert any(fine < size for fine, size in zip(other.grid, one.grid, strict=True))
            continue
        for axis, (at, size, fine) in enumerate(zip(place, one.grid, other.grid, strict=True)):
            along = grid.movedim(axis, 0).reshape(fine, -1).any(1).nonzero().flatten()
            # the place in the target's grid, a place of the coarser grid of resizing, and one of the kernel
            centre, reach = (at + 0.5) * fine / size - 0.5, max(1.0, fine / size) + 1.5
            assert (along - centre).abs().max() <= reach, (axis, at, along)


def impulse(shape: tuple[int, ...], layout: Layout, place: tuple[int, ...]) -> Tensor:
    """All channels of one place, written without the package's own rearrangement."""
    parts = torch.zeros(layout.parts, dtype=torch.float64)
    index: list[Any] = list(place)
    if layout.channels is not None:
        index.insert(layout.channels, slice(None))
    parts[tuple(index)] = 1.0
    if layout.before or layout.after:
        rows = parts.flatten(0, -2)
        extra = rows.new_zeros(layout.before, rows.shape[1]), rows.new_zeros(layout.after, rows.shape[1])
        parts = torch.cat([extra[0], rows, extra[1]])
    return parts.reshape(1, *shape)


def on_the_grid(change: Tensor, shape: tuple[int, ...], layout: Layout) -> Tensor:
    """Which places of the target's grid have changed, class tokens left out."""
    if layout.before or layout.after:
        change = change[layout.before : len(change) - layout.after]
    parts = change.reshape(layout.parts).abs() > 1e-12
    return parts if layout.channels is None else parts.any(layout.channels)


@pytest.mark.parametrize(("source", "target"), pairs())
def test_reach_is_the_number_of_units_with_a_derivative(source: Any, target: Any) -> None:
    torch.manual_seed(1)
    predict = automatic(node("a", source), node("b", target)).double()
    x = torch.randn(1, *source[0], dtype=torch.float64)
    central = (0, *(size // 2 for size in source[0]))
    moved = torch.zeros_like(x)
    moved[central] = 1.0
    _, column = torch.autograd.functional.jvp(predict, x, moved)
    expected = int((column != 0).sum())
    assert count_reach(predict.float(), [source[0]]) == max(1, expected)


@pytest.mark.parametrize(("name", "state"), [*STATES.items(), *SEQUENCES.items(), *VOLUMES.items()])
def test_to_a_map_and_back(name: str, state: Any) -> None:
    shape, layout = state
    if not layout.grid:
        return
    x = torch.randn(3, *shape)
    there = ToMap(shape, layout)(x)
    assert there.shape == (3, layout.width, *layout.grid)
    back = FromMap(shape, layout)(there)
    assert back.shape == x.shape
    rows = slice(layout.before, shape[0] - layout.after)
    assert torch.equal(back[:, rows], x[:, rows])
    for token in (*range(layout.before), *range(shape[0] - layout.after, shape[0])):
        torch.testing.assert_close(back[:, token], x[:, rows].mean(1))


def test_between_maps_it_is_the_published_default() -> None:
    x = torch.randn(2, 12, 8, 8)
    one, other = Layout((12, 8, 8), 0), Layout((6, 16, 16), 0)
    predictor = automatic(node("a", ((12, 8, 8), one)), node("b", ((6, 16, 16), other)))
    weight, bias = predictor[1].weight, predictor[1].bias  # type: ignore[index, union-attr]
    enlarged = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    expected = nn.functional.conv_transpose2d(enlarged, weight, bias, padding=1)  # type: ignore[arg-type]
    torch.testing.assert_close(predictor(x), expected)


@pytest.mark.parametrize(
    ("shape", "target", "mode", "apply"),
    [
        ((3, 10), (2, 25), "linear", nn.functional.conv_transpose1d),
        ((3, 2, 3, 4), (2, 4, 6, 9), "trilinear", nn.functional.conv_transpose3d),
    ],
)
def test_sequences_and_volumes_are_resized_and_convolved(
    shape: Any, target: Any, mode: str, apply: Any
) -> None:
    predictor = automatic(node("a", (shape, Layout(shape, 0))), node("b", (target, Layout(target, 0))))
    x = torch.randn(2, *shape)
    enlarged = nn.functional.interpolate(x, size=target[1:], mode=mode, align_corners=False)
    convolution = predictor[1]  # type: ignore[index]
    torch.testing.assert_close(predictor(x), apply(enlarged, convolution.weight, convolution.bias, padding=1))
    assert convolution.weight.shape == (3, 2, *[3] * (len(shape) - 1))


def test_the_same_tokens_have_a_linear_layer_each() -> None:
    state = ((17, 6), Layout((4, 4, 6), 2, 1))
    predictor = automatic(node("a", state), node("b", ((17, 5), Layout((4, 4, 5), 2, 1))))
    assert isinstance(predictor, nn.Linear)
    wider = automatic(node("a", state), node("b", ((17, 5), Layout((16, 1, 5), 2, 1))))
    assert not isinstance(wider, nn.Linear)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (Node("a", (8, 6)), Node("b", (6, 8), layout=Layout((6, 8), 0)), "channels and which are places"),
        (Node("a", (8, 6), layout=Layout((8, 6), 0)), Node("b", (6, 8)), "of 'b' \\(6, 8\\)"),
        (
            Node("a", (8, 6), layout=Layout((8, 6), 1, ordered=False, rows=3)),
            Node("b", (8, 4), layout=Layout((8, 4), 1, ordered=False, rows=4)),
            "8 rows in no order",
        ),
        (
            Node("a", (4, 8), layout=Layout((4, 8), 0)),
            Node("b", (4, 8, 8), layout=Layout((4, 8, 8), 0)),
            "of a grid 8 x 8 from 'a' of a grid 8",
        ),
        (
            Node("a", (4096,), layout=Layout((4096,), 0)),
            Node("b", (64, 112, 112), layout=Layout((64, 112, 112), 0)),
            "4096 x 802816 weights would need 12.2 GiB",
        ),
    ],
)
def test_what_it_cannot_know_it_refuses(source: Node, target: Node, message: str) -> None:
    with pytest.raises(NoPredictorError, match=message):
        automatic(source, target)


def test_rows_of_the_same_number_are_the_same() -> None:
    one, other = (Node("n", (8, n), layout=Layout((8, n), 1, ordered=False, rows=3)) for n in (5, 4))
    assert isinstance(automatic(one, other), nn.Linear)


# in a spec -------------------------------------------------------------------------------------------


def spec(a: Any, b: Any, predictor: Any = "auto") -> Any:
    return {
        "name": "two",
        "nodes": {"a": a, "b": b},
        "edges": [{"source": "a", "target": "b", "predictor": predictor}],
        "dynamics": {"rule": "energy"},
    }


def test_two_dimensions_of_a_free_node_are_asked_for() -> None:
    with pytest.raises(SpecError) as caught:
        pcg.build(pcg.parse_spec(spec({"shape": [8, 20]}, {"shape": [4, 40]})))
    (fault,) = caught.value.faults
    assert fault.path == ("edges", 0)
    assert "a: {shape: [8, 20], layout: ...}, channels_first, channels_last or tokens" in fault.hint


@pytest.mark.parametrize(
    ("layout", "first", "kind"),
    [("channels_first", 8, nn.ConvTranspose1d), ("channels_last", 20, nn.ConvTranspose1d)],
)
def test_a_node_says_what_it_is(layout: str, first: int, kind: type[nn.Module]) -> None:
    shapes = ([8, 20], [4, 40]) if layout == "channels_first" else ([20, 8], [40, 4])
    nodes = [{"shape": shape, "layout": layout} for shape in shapes]
    network = pcg.build(pcg.parse_spec(spec(*nodes)))
    (convolution,) = [part for part in network.predictors["a->b"].modules() if isinstance(part, kind)]
    assert tuple(convolution.weight.shape) == (8, 4, 3)


def test_tokens_of_a_free_node_are_rows() -> None:
    network = pcg.build(pcg.parse_spec(spec(*[{"shape": [9, n], "layout": "tokens"} for n in (6, 5)])))
    assert isinstance(network.predictors["a->b"], nn.Linear)
    with pytest.raises(SpecError, match="rows in no order"):
        pcg.build(pcg.parse_spec(spec(*[{"shape": [n, 6], "layout": "tokens"} for n in (9, 8)])))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"shape": [8], "layout": "channels_first"}, "cannot be 'channels_first'"),
        ({"shape": [8, 3, 3], "layout": "tokens"}, "cannot be 'tokens'"),
    ],
)
def test_a_layout_that_does_not_fit_the_shape(node: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        pcg.build(pcg.parse_spec(spec(node, {"shape": [4]}, ["Flatten", "Linear"])))
    assert caught.value.faults[0].path == ("nodes", "a", "layout")


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.two(self.one(x)).mean((2, 3))
        return result


def test_a_layout_against_the_operations_is_refused() -> None:
    given = {
        "name": "maps",
        "backbone": {"input": [3, 9, 9]},
        "nodes": {"e1": {"module": "one", "layout": "channels_last"}, "e2": "two"},
        "feedback": "chain",
    }
    with pytest.raises(SpecError, match="is not 'channels_last', as the model's operations tell"):
        pcg.build(pcg.parse_spec(given), model=Maps())
    given["nodes"] = {"e1": {"module": "one", "layout": "channels_first"}, "e2": "two"}
    assert pcg.build(pcg.parse_spec(given), model=Maps()).graph.nodes["e1"].layout == Layout((4, 7, 7), 0)


def test_sizes_that_nobody_wrote_are_refused_before_they_are_made() -> None:
    nodes = {"shape": [64, 224, 224]}, {"shape": [32, 224, 224]}
    with pytest.raises(SpecError, match=r"3211264 x 1605632 weights would need 19208.0 GiB"):
        pcg.build(pcg.parse_spec(spec(*nodes, ["Flatten", "Linear", "Unflatten"])))


def test_several_sources_of_one_map_each() -> None:
    given = spec({"shape": [3, 4, 4]}, {"shape": [2, 8, 8]})
    given["nodes"]["c"] = {"shape": [5, 4, 4]}
    given["edges"] = [{"source": ["a", "c"], "target": "b"}]
    network = pcg.build(pcg.parse_spec(given))
    assert network.predictors["a+c->b"].module[1].weight.shape == (8, 2, 3, 3)


@pytest.mark.parametrize("kind", [kind for kind in MASKED if kind is not nn.Linear])
def test_a_mask_takes_out_channels_of_any_convolution(kind: type[nn.Module]) -> None:
    count = int(kind.__name__[-2])
    shape = [4, *[5] * count]
    layers = [{kind.__name__: {"kernel_size": 3, "padding": 1}}]
    given = spec({"shape": shape}, {"shape": [6, *shape[1:]]}, layers)
    given["edges"][0]["mask"] = {"blocks": [[1, 0], [0, 1], [0, 0]]}
    predict = pcg.build(pcg.parse_spec(given)).predictors["a->b"]
    x = torch.zeros(1, *shape)
    before = predict(x)
    for channel in range(4):
        moved = x.clone()
        moved[0, channel] = 1.0
        changed = (predict(moved) - before)[0].flatten(1).abs().sum(1) > 1e-7
        assert changed.tolist() == [channel < 2] * 2 + [channel >= 2] * 2 + [False] * 2


@pytest.mark.parametrize("one", [(6, 1), (6, 1, 1, 1)])
def test_a_mean_over_all_places_predicts_as_a_vector(one: tuple[int, ...]) -> None:
    source, target = Node("a", one, layout=Layout(one, 0)), Node("b", (3, 4, 5), layout=Layout((3, 4, 5), 0))
    predictor = automatic(source, target)
    x = torch.randn(2, *one)
    weights = [parameter for parameter in predictor.parameters() if parameter.dim() == 2]
    assert [tuple(weight.shape) for weight in weights] == [(60, 6)]
    (bias,) = (parameter for parameter in predictor.parameters() if parameter.dim() == 1)
    torch.testing.assert_close(predictor(x).flatten(1), x.flatten(1) @ weights[0].T + bias)


def test_states_in_blocks_are_predicted_as_their_maps_are() -> None:
    """(2 x 4, 2 x 4) places, one block of 4 x 4 after the other."""

    def in_blocks(x: Tensor) -> Tensor:
        return x.unflatten(3, (2, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 3, 5, 1).flatten(1, 4)

    def blocks(width: int) -> tuple[tuple[int, ...], Layout]:
        return (64, width), Layout((2, 2, 4, 4, width), 4, axes=((0, 2), (1, 3)))

    maps = {width: ((width, 8, 8), Layout((width, 8, 8), 0)) for width in (3, 5)}
    plain = automatic(node("a", maps[3]), node("b", maps[5]))
    x = torch.randn(2, 3, 8, 8)
    expected = plain(x)
    for source, target in (
        (blocks(3), maps[5]),
        (maps[3], blocks(5)),
        (blocks(3), ((64, 5), Layout((8, 8, 5), 2))),
    ):
        other = automatic(node("a", source), node("b", target))
        other.load_state_dict(dict(zip(other.state_dict(), plain.state_dict().values(), strict=True)))
        found = other(in_blocks(x) if source == blocks(3) else x)
        rows = expected.flatten(2).mT if target[0] == (64, 5) else expected
        torch.testing.assert_close(found, in_blocks(expected) if target == blocks(5) else rows)
    each = automatic(node("a", blocks(3)), node("b", blocks(5)))  # the same tokens in the same order
    assert isinstance(each, nn.Linear)
