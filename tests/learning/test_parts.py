"""A batch in parts gives what the whole gives; it is cut where images know nothing of each other."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pcgraph.errors import PCGraphWarning
from pcgraph.files.cache import Cache
from pcgraph.learning import compiled, learn, parts
from pcgraph.learning.local import Local
from pcgraph.learning.moving import Mover
from pcgraph.learning.rules import RULES
from pcgraph.simulation import packages
from tests.learning.test_compiled import ENERGY, GRAPHS, assert_same, built, clamped, dense, numbers

pytestmark = pytest.mark.usefixtures("two_threads")
OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda learned: torch.optim.SGD(learned, lr=0.1, momentum=0.9),
    "Adam": lambda learned: torch.optim.Adam(learned, lr=0.01),
    "AdamW": lambda learned: torch.optim.AdamW(learned, lr=0.01, weight_decay=0.1),
}


class Uncompiled:
    """A function that is called like a package."""

    def __init__(self, function: Any, form: Any = None) -> None:
        self.function, self.form = function, form

    def run(self, *tensors: Tensor) -> list[Tensor]:
        found = self.function(*tensors)
        places = iter(range(len(tree_leaves(found))))
        self.form = tree_map(lambda _: next(places), found)
        return [one.detach() for one in tree_leaves(found)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_parts_give_the_whole(graph: str, optimizer: str) -> None:
    """The rule as it is and torch's optimizer against three parts of two images."""
    (whole, cut), made = (built(GRAPHS[graph]()) for _ in range(2)), OPTIMIZERS[optimizer]
    theirs, ours = made(whole.parameters()), made(cut.parameters())
    weights = dict(cut.named_parameters()) | dict(cut.named_buffers())
    mover = Mover.find(ours, weights)
    assert mover is not None
    for seed in range(3):
        clamp = clamped(whole, 6, seed)
        (update,) = learn(whole, [clamp], theirs, steps=4)
        state = mover.tensors()
        assert state is not None
        part = Uncompiled(compiled.batch_function(RULES["il"], Local(cut), tuple(weights), tuple(clamp), 4))
        size = len(part.run(*weights.values(), *(one[:2] for one in clamp.values())))
        join = Uncompiled(parts._joining(tuple(weights), part.form, size, mover, 3))
        both = parts.Parts(part.run, join, len(weights), len(clamp), 3)  # type: ignore[arg-type]
        with torch.no_grad():
            results = both.run(*weights.values(), *clamp.values(), *state)
        found = {kind: {name: results[at] for name, at in of.items()} for kind, of in join.form.items()}
        assert_same(found["values"], {n: v for n, v in update.values.items() if n not in clamp})
        assert_same(found["energy"], dict(update.energy))
        assert_same(found["start"], dict(update.start))
        assert_same(
            found["gradients"], {n: p.grad for n, p in whole.named_parameters() if p.grad is not None}
        )
        assert_same(dict(cut.named_parameters()), dict(whole.named_parameters()))


def normed(**arguments: Any) -> dict[str, Any]:
    spec = dense("ab", "bc", "cd")
    spec["edges"][1]["predictor"] = ["Linear", {"BatchNorm1d": arguments}]
    return spec


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


COUNTS: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "one for each thread": (dense("ab", "bc", "cd"), 12, 3, 3),
    "equal ones": (dense("ab", "bc", "cd"), 16, 3, 2),
    "nothing to cut in halves": (dense("ab", "bc", "cd"), 7, 2, 1),
    "small ones": (dense("ab", "bc", "cd"), 3, 2, 1),
    "one thread": (dense("ab", "bc", "cd"), 12, 1, 1),
    "an end that depends on all": (dense("ab", "bc", "cd", schedule={"tolerance": 1e-9}), 12, 2, 1),
    "numbers drawn for all": (dense("ab", "bc", "cd", schedule={"initial": "normal"}), 12, 2, 1),
    "noise": (dense("ab", "bc", "cd", dynamics={**ENERGY, "temperature": 0.1}), 12, 2, 1),
    "running statistics": (normed(), 12, 2, 2),
    "statistics of the batch": (normed(track_running_stats=False), 12, 2, 1),
}


@pytest.mark.parametrize("case", COUNTS)
def test_how_many_parts(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, images, threads, expected = COUNTS[case]
    monkeypatch.setattr(parts, "LEAST", 2 * 20)  # two images, as the largest layer has 20 weights
    assert parts.count_parts(built(spec), images, threads) == expected


def test_modules_of_others_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LEAST", 1)
    network = built(dense("ab", "bc", "cd"))
    network.predictors["b->c"].append(Centred())
    assert parts.count_parts(network, 12, 2) == 1


def test_training_statistics_are_those_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LEAST", 1)
    assert parts.count_parts(built(normed()).train(), 12, 2) == 1


@pytest.mark.heavy
def test_compiled_in_parts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parts, "LEAST", 1)
    found = []
    for way in (False, True, True):
        network = built(dense("ab", "bc", "cd", "bd"))
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=0.1)
        batches = [clamped(network, *one) for one in ((4, 0), (4, 1), (3, 0), (4, 2))]  # one unlike the first
        with warnings.catch_warnings():
            warnings.simplefilter("error", PCGraphWarning)
            updates = list(learn(network, batches, optimizer, steps=3, compiled=way))
        assert torch.get_num_threads() == 2
        energies = [update.total for update in updates]
        found.append((energies, numbers(network, optimizer), dict(updates[-1].values)))
        if way:
            assert len(Cache(tmp_path / "cache").entries()) == 2  # a part, and what joins them
            monkeypatch.setattr(packages, "_write", None)
    (whole, *others), (first, second) = found, found[1:]
    for other in others:
        assert other[0] == pytest.approx(whole[0], rel=1e-9)
        assert_same(other[1], whole[1])
        assert_same(other[2], whole[2])
    assert first[0] == second[0]
    assert all(torch.equal(one, second[1][name]) for name, one in first[1].items())
