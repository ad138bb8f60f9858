"""Topologies spelt out: the edges are those of networkx, and faults are found where they stand."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from pcgraph.errors import SpecError
from pcgraph.spec import load_spec, parse_spec, to_yaml
from pcgraph.spec.edge import Edge

GRAPHS: dict[str, tuple[dict[str, Any], Any]] = {
    "watts_strogatz": ({"n": 9, "k": 4, "p": 0.3}, lambda s: nx.watts_strogatz_graph(9, 4, 0.3, seed=s)),
    "newman_watts_strogatz": (
        {"n": 9, "k": 4, "p": 0.3},
        lambda s: nx.newman_watts_strogatz_graph(9, 4, 0.3, seed=s),
    ),
    "barabasi_albert": ({"n": 9, "m": 2}, lambda s: nx.barabasi_albert_graph(9, 2, seed=s)),
    "erdos_renyi": ({"n": 9, "p": 0.4}, lambda s: nx.erdos_renyi_graph(9, 0.4, seed=s)),
    "stochastic_block_model": (
        {"sizes": [4, 5], "p": [[0.9, 0.2], [0.2, 0.8]]},
        lambda s: nx.stochastic_block_model([4, 5], [[0.9, 0.2], [0.2, 0.8]], seed=s),
    ),
    "grid_2d": ({"m": 2, "n": 3}, lambda s: nx.convert_node_labels_to_integers(nx.grid_2d_graph(2, 3))),
}
SMALL = """\
name: small
nodes: {image: {shape: [6]}, label: {shape: [2]}, area1: {shape: [7]}}
topology:
  graph: {grid_2d: {m: 1, n: 3}}
  shape: [4]
  ties:
    - {source: image, target: areas, predictor: [Linear]}
    - {source: [area0, area2], target: label, energy: categorical}
    - {source: area2, target: image, feedback: true, precision: 0.1}
dynamics: {rule: energy}
"""


def spec(name: str, direction: str, seed: int = 3) -> Any:
    topology = {"graph": {name: GRAPHS[name][0]}, "seed": seed, "shape": [4], "direction": direction}
    nodes = {"image": {"shape": [6]}}
    return parse_spec({"name": "t", "nodes": nodes, "topology": topology, "dynamics": {"rule": "energy"}})


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("direction", ["both", "up"])
def test_edges_are_those_of_networkx(name: str, direction: str) -> None:
    found = {(edge.sources[0], edge.target) for edge in spec(name, direction).edges}
    drawn = {tuple(sorted(pair)) for pair in GRAPHS[name][1](random.Random(3)).edges()}
    expected = {(f"area{a}", f"area{b}") for a, b in drawn}
    if direction == "both":
        expected |= {(b, a) for a, b in expected}
    assert found == expected
    assert len(spec(name, direction).edges) == len(expected)


def test_the_seed_draws_the_graph() -> None:
    assert spec("erdos_renyi", "up") == spec("erdos_renyi", "up")
    assert spec("erdos_renyi", "up") != spec("erdos_renyi", "up", seed=4)


def test_it_is_the_spec_that_one_would_write() -> None:
    written = """\
name: small
nodes:
  image: {shape: [6]}
  label: {shape: [2]}
  area1: {shape: [7]}
  area0: {shape: [4]}
  area2: {shape: [4]}
edges:
  - {source: area0, target: area1, predictor: [Tanh, Linear], bundle: into_area1}
  - {source: area1, target: area0, predictor: [Tanh, Linear], bundle: into_area0}
  - {source: area1, target: area2, predictor: [Tanh, Linear], bundle: into_area2}
  - {source: area2, target: area1, predictor: [Tanh, Linear], bundle: into_area1}
  - {source: image, target: area0, predictor: [Linear], bundle: into_area0}
  - {source: image, target: area1, predictor: [Linear], bundle: into_area1}
  - {source: image, target: area2, predictor: [Linear], bundle: into_area2}
  - {source: area0, target: label, energy: categorical, bundle: into_label}
  - {source: area2, target: label, energy: categorical, bundle: into_label}
feedback:
  - {source: area2, target: image, precision: 0.1, bundle: into_image}
dynamics: {rule: energy}
"""
    found = parse_spec(SMALL)
    assert found == parse_spec(written)
    assert parse_spec(to_yaml(found)) == found  # a run folder holds it spelt out
    assert all(isinstance(edge, Edge) for edge in found.feedback)


def test_own_edges_come_first_and_stay(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(SMALL)
    (tmp_path / "top.yaml").write_text(
        "extends: base.yaml\nedges: [{source: image, target: label, predictor: [Linear]}]\n"
        "topology: {graph: {grid_2d: {m: 1, n: 2}}, ties: [{source: image, target: area0}]}\n"
    )
    found = load_spec(tmp_path / "top.yaml")
    assert [f"{edge.sources[0]}->{edge.target}" for edge in found.edges] == [
        *("image->label", "area0->area1", "area1->area0", "image->area0"),
    ]
    assert found.topology is None


def test_faults_of_spelt_out_edges_stand_at_their_tie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SMALL.replace("source: [area0, area2]", "source: [area0, area9]"))
    with pytest.raises(SpecError) as caught:
        load_spec("spec.yaml")
    assert str(caught.value).startswith("spec.yaml:8:7 edges[8].source: unknown node 'area9'\n")
    import pcgraph as pcg

    Path("spec.yaml").write_text(SMALL.replace("predictor: [Linear]}", "predictor: [Conv2d]}"))
    with pytest.raises(SpecError, match=r"spec.yaml:7:7 edges\[4\].*Conv2d"):
        pcg.build("spec.yaml")


def test_neither_torch_nor_numpy_is_imported_for_it() -> None:
    code = (
        "import sys; from pcgraph.spec import parse_spec; parse_spec(sys.argv[1]);"
        "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    for graph, (arguments, _) in GRAPHS.items():
        if graph in ("watts_strogatz", "stochastic_block_model"):
            text = to_text(graph, arguments)
            found = subprocess.run(
                [sys.executable, "-c", code, text], capture_output=True, text=True, check=True
            )
            assert found.stdout.strip() == "[]"


def to_text(graph: str, arguments: dict[str, Any]) -> str:
    return (
        "name: t\nnodes: {image: {shape: [6]}}\ndynamics: {rule: energy}\n"
        f"topology: {{graph: {{{graph}: {arguments}}}, shape: [4],\n"
        "  ties: [{source: image, target: areas}]}\n"
    )
