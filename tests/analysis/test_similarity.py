"""CKA against its definition through kernels and projections, and RDMs against rsatoolbox's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

import pcgraph as pcg
from pcgraph.analysis.export import datasets, save_npz, states_of
from pcgraph.analysis.inputs import Inputs
from pcgraph.analysis.similarity import Geometry, cka_matrix, compare_rdms, geometries, linear_cka, rdms
from pcgraph.errors import InputError

UP = {"Unflatten": {"dim": 1, "unflattened_size": [2, 3]}}
SPEC = {
    "name": "mlp",
    "nodes": {"a": {"shape": [4]}, "b": {"shape": [2, 3]}},
    "edges": [{"source": "a", "target": "b", "predictor": ["Linear", "Tanh", UP]}],
    "feedback": [{"source": "b", "target": "a", "predictor": ["Flatten", "Linear"]}],
}


@pytest.fixture
def scheduler() -> pcg.Scheduler:
    return pcg.Scheduler(pcg.build(pcg.parse_spec(SPEC)).double())


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("images", "units", "others"), [(10, 3, 5), (6, 40, 7), (30, 2, 2)])
def test_cka_is_the_ratio_of_covariances(images: int, units: int, others: int) -> None:
    """|Y^T X|^2 / (|X^T X| |Y^T Y|), with centred columns."""
    x, y = draw(images, units) + 3, draw(images, others, seed=1) * 2
    cx, cy = x - x.mean(axis=0), y - y.mean(axis=0)
    norm = np.linalg.norm
    expected = norm(cy.T @ cx) ** 2 / (norm(cx.T @ cx) * norm(cy.T @ cy))
    assert linear_cka(x, y) == pytest.approx(expected)
    assert linear_cka(torch.tensor(x), y) == pytest.approx(expected)


def test_cka_of_lines_is_their_squared_correlation() -> None:
    x, y = draw(12, 1), draw(12, 1, seed=3)
    assert linear_cka(x, y) == pytest.approx(np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2)


def test_cka_does_not_see_rotation_scale_and_shift() -> None:
    x = draw(15, 6)
    turn = np.linalg.qr(draw(6, 6, seed=2))[0]
    assert linear_cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert linear_cka(x, x @ np.diag([9, 1, 1, 1, 1, 1])) < 0.99


def test_images_that_are_all_alike_have_no_similarity() -> None:
    assert np.isnan(linear_cka(np.full((5, 3), 0.7), draw(5, 3)))


def test_geometries_are_of_the_states(scheduler: pcg.Scheduler) -> None:
    x = torch.tensor(draw(7, 4))
    found = {(one.node, one.step): one for one in geometries(scheduler, Inputs(x, steps=3), "n", "clean")}
    assert len(found) == 2 * 4
    run = scheduler.run(x, 3, record=["values"])
    for (node, step), one in found.items():
        flat = run.values[node][step].flatten(1).numpy()
        np.testing.assert_allclose(one.gram, flat @ flat.T, atol=1e-12)
        upper = one.distances[np.triu_indices(7, 1)]
        np.testing.assert_allclose(upper, pdist(flat, "sqeuclidean") / flat.shape[1], atol=1e-10)
    pair = [found["b", 0], found["b", 3]]
    states = [run.values["b"][step].flatten(1) for step in (0, 3)]
    assert cka_matrix([one.gram for one in pair])[0, 1] == pytest.approx(linear_cka(*states))


def test_one_image_has_nobody_to_be_compared_with(scheduler: pcg.Scheduler) -> None:
    with pytest.raises(InputError, match="two or more"):
        list(geometries(scheduler, Inputs(torch.ones(1, 4).double())))


def test_rdms_are_those_that_rsatoolbox_computes_itself(scheduler: pcg.Scheduler) -> None:
    toolbox = pytest.importorskip("rsatoolbox")
    x = torch.tensor(draw(9, 4))
    inputs, names = Inputs(x, steps=2), [f"image {place}" for place in range(9)]
    found = list(geometries(scheduler, inputs, "n", "clean"))
    sets = list(datasets(states_of(scheduler, inputs), names, network="n"))
    own = toolbox.rdm.calc_rdm(sets, method="euclidean")
    by_name = {(one["node"], one["step"]): place for place, one in enumerate(s.descriptors for s in sets)}
    order = [by_name[one.node, one.step] for one in found]
    mine = rdms(found, names)
    np.testing.assert_allclose(mine.dissimilarities, own.dissimilarities[order], atol=1e-10)
    assert mine.rdm_descriptors["node"] == ["a", "b"] * 3
    assert list(sets[0].obs_descriptors["image"]) == names
    correlation = compare_rdms(found)
    expected = np.corrcoef(own.dissimilarities[order])
    np.testing.assert_allclose(correlation, expected, atol=1e-10)


def test_rdms_are_refused_where_they_say_nothing() -> None:
    two = [Geometry("n", "", "a", 0, 1, np.eye(2))] * 2
    with pytest.raises(InputError, match="three images"):
        compare_rdms(two)
    with pytest.raises(InputError, match="expected one of"):
        compare_rdms(two, "telepathy")


def test_what_is_exported_is_read_by_numpy_alone(scheduler: pcg.Scheduler, tmp_path: Path) -> None:
    inputs = Inputs(torch.tensor(draw(3, 4)), steps=2)
    states = states_of(scheduler, inputs)
    save_npz(tmp_path / "states.npz", states, ["a", "b", "ç"])
    with np.load(tmp_path / "states.npz", allow_pickle=False) as read:
        assert read["images"].tolist() == ["a", "b", "ç"]
        assert read["values:b"].shape == (3, 3, 2, 3)
        run = scheduler.run(inputs.images, 2, record=["values"])
        for step, value in enumerate(run.values["b"]):
            np.testing.assert_array_equal(read["values:b"][step], value.numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["states.npz"]
