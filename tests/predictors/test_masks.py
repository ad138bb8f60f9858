"""Weight masks: what they leave out stays out, whatever the pattern, the rule and the optimizer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import pcgraph as pcg
from pcgraph.errors import SpecError
from pcgraph.learning import learn
from pcgraph.predictors.masks import mask_matrix
from pcgraph.spec.mask import Mask


def matrix(mask: Any, targets: int, sources: int, folder: Path = Path()) -> Tensor:
    return mask_matrix(Mask.model_validate(mask), targets, sources, folder)


def network(mask: Any, sizes: tuple[int, int, int] = (5, 6, 3), **more: Any) -> pcg.PCNetwork:
    """A chain whose first edge has the mask."""
    a, b, c = sizes
    spec = {
        "name": "masked",
        "nodes": {"a": {"shape": [a]}, "b": {"shape": [b]}, "c": {"shape": [c]}},
        "edges": [
            {"source": "a", "target": "b", "predictor": ["Linear", "Tanh"], "mask": mask},
            {"source": "b", "target": "c", "predictor": ["Linear"]},
        ],
        "dynamics": {"rule": "energy", "rate": 0.2},
        "schedule": {"steps": 8},
        **more,
    }
    return pcg.build(pcg.parse_spec(spec))


# ---- patterns -----------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 1.0])
def test_density_is_exact_and_follows_the_seed(density: float) -> None:
    one = matrix({"density": density, "seed": 3}, 30, 20)
    assert int(one.sum()) == round(density * 600)
    assert torch.equal(one, matrix({"density": density, "seed": 3}, 30, 20))
    if density < 1:
        assert not torch.equal(one, matrix({"density": density, "seed": 4}, 30, 20))


def test_blocks_connect_parts() -> None:
    found = matrix({"blocks": [[1, 0, 1], [0, 1, 0]]}, 4, 6)
    rows = [[1, 1, 0, 0, 1, 1]] * 2 + [[0, 0, 1, 1, 0, 0]] * 2
    assert found.int().tolist() == rows


def test_a_generated_graph_is_networkx_own() -> None:
    import random

    found = matrix({"graph": {"watts_strogatz": {"k": 4, "p": 0.3}}, "seed": 5}, 12, 12)
    expected = nx.to_numpy_array(nx.watts_strogatz_graph(12, 4, 0.3, seed=random.Random(5)))
    assert np.array_equal(found.numpy(), expected.astype(bool))
    grid = matrix({"graph": {"grid_2d": {"m": 3, "n": 4}}}, 12, 12)
    neighbours = [[abs(i // 4 - j // 4) + abs(i % 4 - j % 4) == 1 for j in range(12)] for i in range(12)]
    assert grid.tolist() == neighbours


def test_files(tmp_path: Path) -> None:
    wanted = torch.rand(3, 4) < 0.5
    np.save(tmp_path / "m.npy", wanted.numpy())
    save_file({"any": wanted.float()}, tmp_path / "m.safetensors")
    arcs = nx.DiGraph((s, 4 + t) for t in range(3) for s in range(4) if wanted[t, s])
    nx.write_edgelist(arcs, tmp_path / "m.edgelist", data=False)
    nx.write_graphml(arcs, tmp_path / "m.graphml")
    nx.write_adjlist(arcs, tmp_path / "m.adjlist")
    for suffix in ("npy", "safetensors", "edgelist", "graphml", "adjlist"):
        assert torch.equal(matrix(f"m.{suffix}", 3, 4, tmp_path), wanted), suffix
    square = nx.DiGraph([(0, 1), (1, 2), (2, 2)])  # 0 predicts 1, 1 predicts 2, 2 itself
    nx.write_edgelist(square, tmp_path / "s.edgelist")
    assert matrix("s.edgelist", 3, 3, tmp_path).int().tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(pcg.SpecError, match=r"evil\.npy' cannot be read"):
        matrix("evil.npy", 1, 1, tmp_path)


# ---- what the layers compute --------------------------------------------------------------------


def test_a_masked_edge_is_the_plain_one_with_weights_of_zero() -> None:
    """The gradients for the states are autograd's, of a function written out with the mask."""
    masked = network({"density": 0.4})
    plain = network({"density": 1.0})
    keep = matrix({"density": 0.4}, 6, 5)
    weight, bias = (plain.predictors["a->b"][0].get_parameter(n) for n in ("weight", "bias"))
    layer = masked.predictors["a->b"][0]
    assert torch.equal(layer.weight, weight * keep)  # the same first weights
    x = torch.randn(4, 5, requires_grad=True)
    found = masked.predictors["a->b"](x)
    expected = torch.tanh(x @ (weight * keep).T + bias)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found.sum(), [x, layer.weight]),
        torch.autograd.grad(expected.sum(), [x, weight]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["Conv2d", "ConvTranspose2d"])
def test_of_convolutions_the_channels_are_masked(kind: str) -> None:
    spec = {
        "name": "maps",
        "nodes": {"a": {"shape": [4, 5, 5]}, "b": {"shape": [6, 5, 5]}},
        "edges": [
            {
                "source": "a",
                "target": "b",
                "predictor": [{kind: {"kernel_size": 3, "padding": 1}}],
                "mask": {"blocks": [[1, 0], [1, 1], [0, 1]]},
            }
        ],
        "dynamics": {"rule": "energy"},
    }
    predictor = pcg.build(pcg.parse_spec(spec)).predictors["a->b"]
    x = torch.randn(1, 4, 5, 5)
    before = predictor(x)
    x[:, :2] += 1  # the first two channels reach the first four of the target
    changed = (predictor(x) - before).flatten(2).abs().amax(2)[0] > 1e-6
    assert changed.tolist() == [True] * 4 + [False] * 2


# ---- learning -----------------------------------------------------------------------------------


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1, amsgrad=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, weight_decay=0.1),
}


@pytest.mark.parametrize("rule", ["il", "ipc", "fpa", "zil", "bp"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_not_there_stays_zero(rule: Any, optimizer: str) -> None:
    net = network({"density": 0.3, "seed": 1})
    gone = ~matrix({"density": 0.3, "seed": 1}, 6, 5)
    weight = net.predictors["a->b"][0].weight
    first = weight.detach().clone()
    clamp = {"a": torch.randn(10, 5), "c": F.one_hot(torch.arange(10) % 3, 3).float()}
    for _ in learn(net, [clamp] * 5, OPTIMIZERS[optimizer](net.parameters()), rule=rule):
        assert (weight[gone] == 0).all()
    assert (weight != first)[~gone].all()


def test_files_of_weights_look_as_ever(tmp_path: Path) -> None:
    net, dense = network({"density": 0.3}), network({"density": 1.0})
    net.save_weights(tmp_path / "w.safetensors")
    assert set(load_file(tmp_path / "w.safetensors")) == set(dense.predictors.state_dict())
    dense.save_weights(tmp_path / "dense.safetensors")
    gone = ~matrix({"density": 0.3}, 6, 5)
    other = copy.deepcopy(net)
    other.load_weights(tmp_path / "dense.safetensors")  # the mask is the spec's
    loaded = other.predictors["a->b"][0].weight
    assert (loaded[gone] == 0).all()
    assert torch.equal(loaded[~gone], dense.predictors["a->b"][0].weight[~gone])


def test_reach_counts_what_is_there(tmp_path: Path) -> None:
    keep = torch.zeros(8, 5, dtype=torch.bool)
    keep[[0, 3, 7], 2] = True  # unit 2 of 5 is the central one
    np.save(tmp_path / "m.npy", keep.numpy())
    spec = {
        "name": "reach",
        "nodes": {"a": {"shape": [5]}, "b": {"shape": [8]}},
        "edges": [{"source": "b", "target": "a"}],
        "feedback": [{"source": "a", "target": "b", "mask": "m.npy"}],
    }
    assert pcg.build(pcg.parse_spec(spec, tmp_path)).dynamics.reach["a->b"] == 3
    maps = {"a": {"shape": [4, 6, 6]}, "b": {"shape": [2, 6, 6]}}
    spec |= {"nodes": maps, "feedback": [{"source": "a", "target": "b", "mask": {"blocks": [[1], [0]]}}]}
    assert pcg.build(pcg.parse_spec(spec)).dynamics.reach["a->b"] == 9  # one channel of 3 x 3


def test_a_compiled_step_has_the_mask_too() -> None:
    net = network({"density": 0.3})
    x = torch.randn(2, 5)
    expected = pcg.Scheduler(net).run(x, steps=3).state.values
    found = pcg.Scheduler(net).compile(backend="eager").run(x, steps=3).state.values
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_a_file_moves_with_the_spec_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    np.save(tmp_path / "base" / "m.npy", np.eye(3))
    (tmp_path / "base" / "spec.yaml").write_text(
        "name: base\nnodes: {a: {shape: [3]}, b: {shape: [3]}}\n"
        "edges: [{source: a, target: b, predictor: [Linear], mask: m.npy}]\ndynamics: {rule: energy}\n"
    )
    (tmp_path / "top.yaml").write_text("extends: base/spec.yaml\nname: top\n")
    weight = pcg.build(tmp_path / "top.yaml").predictors["a->b"].weight
    assert torch.equal(weight != 0, torch.eye(3, dtype=torch.bool))


# ---- what does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "predictor", "message"),
    [
        ({"blocks": [[1, 0]]}, ["Linear"], r"the 5 units of the source cannot be cut into 2 equal parts"),
        ({"graph": {"erdos_renyi": {"p": 0.5}}}, ["Linear"], "as many sources as targets, here 5 and 6"),
        ("gone.npy", ["Linear"], "there is no file 'gone.npy'"),
        ({"density": 0.5}, ["Linear", "Tanh", "Linear"], "2 layers that a mask could be for"),
        ({"density": 0.5}, ["Tanh", {"Unflatten": {"unflattened_size": [6]}}], "0 layers"),
    ],
)
def test_masks_that_do_not_fit(mask: Any, predictor: Any, message: str) -> None:
    nodes = {"a": {"shape": [6 if predictor[0] == "Tanh" else 5]}, "b": {"shape": [6]}}
    if len(predictor) == 3:
        predictor = [{"Linear": {"out_features": 4}}, *predictor[1:]]
    edge = {"source": "a", "target": "b", "predictor": predictor, "mask": mask}
    spec = {"name": "n", "nodes": nodes, "edges": [edge], "dynamics": {"rule": "energy"}}
    with pytest.raises(pcg.SpecError, match=message) as caught:
        pcg.build(pcg.parse_spec(spec))
    assert caught.value.faults[0].path[:3] == ("edges", 0, "mask")


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.ones((2, 2)))
    np.save(tmp_path / "two.npy", np.full((6, 5), 2))
    (tmp_path / "words.edgelist").write_text("one two\n")
    (tmp_path / "far.edgelist").write_text("0 99\n")
    (tmp_path / "broken.graphml").write_text("<graphml")
    for file, message in {
        "m.npy": r"the mask has shape \(2, 2\), the weights \(6, 5\)",
        "two.npy": "a mask holds 0 and 1 only",
        "words.edgelist": "cannot be read",
        "far.edgelist": "the graph has a node 99; the units are numbered 0 to 10",
        "broken.graphml": "cannot be read",
    }.items():
        with pytest.raises(pcg.SpecError, match=message):
            matrix(file, 6, 5, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.edgelist", b"0,4\n1,5\n", "line 1: expected numbers of nodes"),
        ("m.edgelist", b"0 4\n1;5\n", "line 2: expected numbers of nodes"),
        ("m.edgelist", b"# nothing\n\n", "it holds no edge"),
        ("m.edgelist", b"0 4\n1 5 0.0\n", "line 2: a weight other than 1"),
        ("m.edgelist", b"0 4 0.5\n", "line 1: a weight other than 1"),
        ("m.edgelist", b"0 4 {'weight': 0}\n", "line 1: a weight other than 1"),
        ("m.edgelist", b"", "it holds no edge"),
        ("m.edgelist", b"\x80\x81\xff", "cannot be read"),
        ("m.edgelist", bytes(300), "line 1: expected numbers of nodes"),
        ("m.edgelist", b"0 1\n1 2\n", "leaves none of the 12 weights"),
        ("m.adjlist", b"0,4\n", "line 1: expected numbers of nodes"),
        ("m.adjlist", b"0\n1\n", "it holds no edge"),
        ("m.graphml", b"", "cannot be read"),
    ],
)
def test_a_graph_of_which_nothing_is_left(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    edge = {"source": "a", "target": "b", "predictor": ["Linear"], "mask": name}
    nodes = {"a": {"shape": [4]}, "b": {"shape": [3]}}
    spec = {"name": "s", "nodes": nodes, "edges": [edge], "dynamics": {"rule": "energy"}}
    with pytest.raises(SpecError, match=message):
        pcg.build(pcg.parse_spec(spec, folder=tmp_path))


@pytest.mark.parametrize(
    "line", ["0 4", "0 4 1", "0 4 1.0", "0 4 {}", "0 4 {'colour': 2}", "\ufeff0 4 # one"]
)
def test_what_may_follow_an_edge_in_a_list(tmp_path: Path, line: str) -> None:
    (tmp_path / "m.edgelist").write_text(f"{line}\r\n", encoding="utf-8", newline="")
    assert matrix("m.edgelist", 3, 4, tmp_path).int().tolist() == [[1, 0, 0, 0], [0] * 4, [0] * 4]


def test_an_array_or_a_density_of_which_nothing_is_left(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((3, 4)))
    for mask in ({"file": "m.npy"}, {"density": 0.01}):
        edge = {"source": "a", "target": "b", "predictor": ["Linear"], "mask": mask}
        nodes = {"a": {"shape": [4]}, "b": {"shape": [3]}}
        spec = {"name": "s", "nodes": nodes, "edges": [edge], "dynamics": {"rule": "energy"}}
        with pytest.raises(SpecError, match="leaves none of the 12 weights"):
            pcg.build(pcg.parse_spec(spec, folder=tmp_path))
