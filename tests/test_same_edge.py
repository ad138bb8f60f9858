"""An edge is the same edge in every wiring: its first weights, and those that a bank has for it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import pcgraph as pcg

WIRINGS: dict[str, list[Any]] = {"chain": ["chain"], "dense": ["dense"], "skips": [{"skip": 2}, "chain"]}


def spec(feedback: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "w",
        "nodes": {name: {"shape": [5]} for name in "abcd"},
        "edges": [{"source": s, "target": t} for s, t in ("ab", "bc", "cd")],
        "feedback": feedback,
        **more,
    }


def weights(network: pcg.PCNetwork, edge: str) -> list[torch.Tensor]:
    return list(network.predictors[edge].parameters())


def test_first_weights_follow_the_name_and_the_seed() -> None:
    built = {name: pcg.build(spec(feedback), seed=3) for name, feedback in WIRINGS.items()}
    turned = {**spec(["dense"]), "edges": spec([])["edges"][::-1]}
    built["turned"] = pcg.build(turned, seed=3)
    for edge in ("d->c", "c->b", "a->b"):
        first, *others = (weights(network, edge) for network in built.values())
        assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
    other = pcg.build(spec(["chain"]), seed=4)
    assert not torch.equal(weights(other, "d->c")[0], weights(built["chain"], "d->c")[0])
    assert not torch.equal(weights(built["chain"], "d->c")[0], weights(built["chain"], "c->b")[0])


def test_a_bank_serves_every_wiring(tmp_path: Path) -> None:
    bank = pcg.build(spec(["dense"]), seed=1)
    bank.save_weights(tmp_path / "bank.safetensors")
    given = {"file": str(tmp_path / "bank.safetensors"), "strict": False}
    for feedback in WIRINGS.values():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            network = pcg.build(spec(feedback, weights=given), seed=2)
        assert network.feedback_trained
        passed = len(bank.predictors) - len(network.predictors)
        told = f"'{tmp_path / 'bank.safetensors'}': not in this wiring: {passed} of its edges"
        assert [str(one.message) for one in said] == [told] * bool(passed)
        for edge in network.predictors:
            for own, banked in zip(weights(network, edge), weights(bank, edge), strict=True):
                assert torch.equal(own, banked)


def test_what_a_bank_lacks_is_named_and_stays_as_it_is(tmp_path: Path) -> None:
    pcg.build(spec(["chain"]), seed=1).save_weights(tmp_path / "bank.safetensors")
    given = {"file": str(tmp_path / "bank.safetensors"), "strict": False}
    with pytest.warns(pcg.errors.PCGraphWarning, match="not in it, and not trained: c->a, d->a, d->b$"):
        network = pcg.build(spec(["dense"], weights=given), seed=2)
    assert not network.feedback_trained
    fresh = pcg.build(spec(["dense"]), seed=2)
    assert torch.equal(weights(network, "d->a")[0], weights(fresh, "d->a")[0])


def test_a_strict_file_and_a_torn_edge_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "bank.safetensors"
    pcg.build(spec(["dense"]), seed=1).save_weights(path)
    with pytest.raises(pcg.ModelError, match="belongs to no edge"):
        pcg.build(spec(["chain"], weights=str(path)))
    tensors = load_file(path)
    gone = next(name for name in tensors if name.startswith("d->c.") and name.endswith("bias"))
    save_file({name: tensor for name, tensor in tensors.items() if name != gone}, path)
    with pytest.raises(pcg.ModelError, match=f"'{gone}' is missing"):
        pcg.build(spec(["chain"], weights={"file": str(path), "strict": False}))
