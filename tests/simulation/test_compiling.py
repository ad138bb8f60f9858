"""A compiled step is one graph and gives what the plain step gives."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import InvalidBackend
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import config, cpp_builder
from torch._inductor.exc import InvalidCxxCompiler

import pcgraph as pcg
from pcgraph.errors import PCGraphWarning
from pcgraph.simulation.compiling import Compiler, _laid_out, _only_arguments
from tests.nets import residual

pytestmark = pytest.mark.long

RECORD = ["output", "values", "errors", "energy", "gradients"]


@pytest.mark.heavy
@pytest.mark.parametrize(("rule", "order"), [("predify", "sweep"), ("energy", "synchronous")])
def test_compiled_steps_agree(rule: str, order: str) -> None:
    network = residual(rule, order)
    images = torch.randn(2, 3, 16, 16)
    plain = pcg.Scheduler(network).run(images, steps=4, record=RECORD)
    compiled = pcg.Scheduler(network).compile(backend="aot_eager").run(images, steps=4, record=RECORD)
    for t in range(5):
        torch.testing.assert_close(compiled.output[t], plain.output[t])
        for quantity in ("values", "errors", "energy", "gradients"):
            for name, series in getattr(plain, quantity).items():
                torch.testing.assert_close(getattr(compiled, quantity)[name][t], series[t])


@pytest.mark.heavy
def test_one_compilation_serves_all_steps_also_in_inference_mode() -> None:
    compilations = CompileCounterWithBackend("aot_eager")
    scheduler = pcg.Scheduler(residual("predify", "sweep")).compile(backend=compilations)
    with torch.inference_mode():
        scheduler.run(torch.randn(2, 3, 16, 16), steps=5)
        scheduler.run(torch.randn(2, 3, 16, 16), steps=5)
    images = torch.randn(2, 3, 16, 16)
    alone = scheduler.run(images, steps=2, record=["gradients:e3"])
    plain = pcg.Scheduler(scheduler.network).run(images, steps=2, record=["gradients:e3"])
    torch.testing.assert_close(alone.gradients["e3"][1], plain.gradients["e3"][1])
    assert compilations.frame_count == 3  # the first pass, the step, and the readout


@pytest.mark.parametrize("compiled", [True, False])
def test_a_state_starts_as_a_tensor_of_its_own(compiled: bool) -> None:
    scheduler = pcg.Scheduler(residual("predify", "sweep"))
    if compiled:
        scheduler.compile(backend="eager")
    state = scheduler.start(torch.randn(2, 3, 16, 16))
    assert torch.equal(state.values["e1"], state.constants["e1.prediction"])
    assert state.values["e1"].data_ptr() != state.constants["e1.prediction"].data_ptr()


def test_weights_that_change_are_compiled_anew() -> None:
    network, images = residual("predify", "sweep"), torch.randn(2, 3, 16, 16)
    scheduler = pcg.Scheduler(network).compile(backend="eager")

    def compiler() -> Compiler:
        scheduler.start(images)
        assert scheduler._stepper.compiler.options == {"backend": "eager"}
        return scheduler._stepper.compiler

    first = compiler()
    assert compiler() is first
    with torch.no_grad():
        network.predictors["e2->e1"][-1].bias += 1
    with pytest.warns(PCGraphWarning, match="compiled anew"):
        second = compiler()
    assert second is not first
    network.predictors["e2->e1"][-1].bias = torch.nn.Parameter(
        torch.zeros_like(network.predictors["e2->e1"][-1].bias)
    )
    with pytest.warns(PCGraphWarning, match="compiled anew"):
        third = compiler()
    assert third is not second
    network.load_state_dict(network.state_dict())
    with pytest.warns(PCGraphWarning, match="compiled anew"):
        assert compiler() is not third


def test_a_differentiable_run_is_not_compiled() -> None:
    scheduler = pcg.Scheduler(residual("predify", "sweep")).compile(backend="nothing would take this")
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    scheduler.run(images, steps=2, differentiable=True).output[2].sum().backward()
    assert images.grad is not None


def test_without_a_compiler_it_runs_uncompiled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", find)
    goes_on_without("there is no C\\+\\+ compiler")


@pytest.mark.parametrize("cache", ["0", None])
def test_with_a_compiler_that_cannot_compile_it_runs_uncompiled_and_says_so_once(
    cache: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PCGRAPH_CACHE", cache or str(tmp_path / "cache"))
    broken = tmp_path / "g++"
    version = 'if [ "$1" = --version ]; then echo "g++ 14"; exit 0; fi'
    broken.write_text(f"#!/bin/sh\n{version}\necho 'g++: fatal error: no cc1plus' >&2; exit 1\n")
    broken.chmod(0o700)
    with config.patch({"cpp.cxx": (None, str(broken))}):
        goes_on_without("g\\+\\+: fatal error: no cc1plus")


def goes_on_without(reason: str) -> None:
    """A compiled scheduler runs, says once why it is not compiled, and is as if it had never been asked."""
    network = residual("predify", "sweep")
    images = torch.randn(2, 3, 16, 16)
    plain = pcg.Scheduler(network).run(images, steps=2, record=RECORD)
    scheduler = pcg.Scheduler(network).compile()
    with pytest.warns(PCGraphWarning) as said:
        first = scheduler.run(images, steps=2, record=RECORD)
    assert scheduler.gave_up
    (warning,) = said
    assert re.search(f"steps are not compiled: .*{reason}", str(warning.message))
    for quantity in ("values", "errors", "energy", "gradients"):
        for name, series in getattr(plain, quantity).items():
            torch.testing.assert_close(getattr(first, quantity)[name][2], series[2])
    with torch.no_grad():
        network.predictors["e2->e1"][-1].bias += 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = scheduler.run(images, steps=2)
    torch.testing.assert_close(again.output[2], pcg.Scheduler(network).run(images, steps=2).output[2])
    assert not scheduler.gave_up


def test_what_the_caller_asked_of_torch_compile_fails_as_it_does_there() -> None:
    scheduler = pcg.Scheduler(residual("predify", "sweep")).compile(backend="nothing would take this")
    with pytest.raises(InvalidBackend):
        scheduler.run(torch.randn(2, 3, 16, 16), steps=1)


@pytest.mark.heavy
def test_compiled_states_are_channels_last() -> None:
    scheduler = pcg.Scheduler(residual("predify", "sweep")).compile(backend="aot_eager")
    state = scheduler.run(torch.randn(2, 3, 16, 16), steps=2).state
    assert all(state.values[node].is_contiguous(memory_format=torch.channels_last) for node in ("e1", "e3"))


@pytest.mark.slow
def test_the_default_backend_agrees() -> None:
    network = residual("predify", "sweep")
    images = torch.randn(2, 3, 16, 16)
    plain = pcg.Scheduler(network).run(images, steps=4)
    compiled = pcg.Scheduler(network).compile().run(images, steps=4)
    torch.testing.assert_close(compiled.output[4], plain.output[4], atol=1e-5, rtol=1e-4)


def test_every_function_has_the_options() -> None:
    seen: list[int] = []

    def keep_all(guards: list[object]) -> list[bool]:
        seen.append(len(guards))
        return [True] * len(guards)

    compiler = Compiler(torch.device("cpu"), {"backend": "eager", "options": {"guard_filter_fn": keep_all}})
    for key in ("first", "second"):
        compiler(key, lambda x: x + 1, torch.ones(2))
    assert len(seen) == 2


@pytest.mark.heavy
def test_another_plan_or_mode_is_noticed_though_only_arguments_are_guarded() -> None:
    options = {"backend": "eager", "options": {"guard_filter_fn": _only_arguments}}
    scheduler = pcg.Scheduler(residual("predify", "sweep")).compile(**options)
    plain = pcg.Scheduler(scheduler.network)
    images = torch.randn(2, 3, 16, 16)
    state = plain.start(images)
    clamped = {"e2": state.values["e2"] + 1}
    for run in (
        lambda s: s.run(images, steps=2),
        lambda s: s.run(images[:1], steps=2),
        lambda s: s.run(images, steps=2, clamp=clamped),
        lambda s: s.run(images, steps=2),
    ):
        torch.testing.assert_close(run(scheduler).output[2], run(plain).output[2])
    with torch.autocast("cpu", torch.bfloat16):
        expected, got = plain.run(images, steps=2).output[2], scheduler.run(images, steps=2).output[2]
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected, atol=0.02, rtol=0.02)


def volumes() -> pcg.PCNetwork:
    """States with three axes, whose precisions are a buffer of four dimensions, as many as a map has."""
    edge = {
        "source": "a",
        "target": "b",
        "predictor": [{"Conv3d": {"kernel_size": 1}}],
        "precision": [0.5, 2],
    }
    nodes = {"a": {"shape": [3, 2, 2, 2]}, "b": {"shape": [2, 2, 2, 2]}}
    dynamics = {"rule": "energy", "rate": 0.1}
    spec = {"name": "volumes", "nodes": nodes, "edges": [edge], "dynamics": dynamics}
    return pcg.build(pcg.Spec.model_validate(spec))


def test_kernels_of_volumes_stay_as_they_lie() -> None:
    network, clamp = volumes(), {"a": torch.randn(2, 3, 2, 2, 2)}
    compiled = pcg.Scheduler(network).compile(backend="eager").run(clamp=clamp, steps=2)
    plain = pcg.Scheduler(network).run(clamp=clamp, steps=2)
    torch.testing.assert_close(compiled.state.values["b"], plain.state.values["b"])


@pytest.mark.filterwarnings("error::pcgraph.errors.PCGraphWarning")
def test_compiling_a_network_twice_changes_no_weight() -> None:
    network, clamp = volumes(), {"a": torch.randn(2, 3, 2, 2, 2)}
    first, second = (pcg.Scheduler(network).compile(backend="eager") for _ in range(2))
    for scheduler in (first, second, first):
        scheduler.run(clamp=clamp, steps=1)


def test_what_was_compiled_in_inference_mode_is_differentiated_later() -> None:
    network, a = volumes(), torch.randn(2, 3, 2, 2, 2, requires_grad=True)
    with torch.inference_mode():
        pcg.Scheduler(network).compile(backend="eager")
    run = pcg.Scheduler(network).run(clamp={"a": a}, free=["a"], steps=2, differentiable=True)
    (gradient,) = torch.autograd.grad(run.state.values["a"].square().sum(), a)
    assert gradient.abs().sum() > 0


def test_numbers_that_are_negated_when_read_are_negated_for_packages() -> None:
    value = _laid_out(torch._neg_view(torch.ones(2, 3)))
    assert not value.is_neg()
    assert value.tolist() == [[-1.0] * 3] * 2


class Counting(nn.Module):
    """A predictor whose prediction depends on how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.last = 0, torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = (x + self.last).detach()
        return x[:, :3] * self.calls + self.last[:, :3]


def counting(sources: object, target: object) -> nn.Module:
    return Counting()


@pytest.mark.parametrize("cache", ["0", None])
@pytest.mark.parametrize("options", [{}, {"backend": "eager"}])
def test_a_predictor_that_keeps_something_between_calls_is_not_compiled(
    options: dict[str, str], cache: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PCGRAPH_CACHE", cache or str(tmp_path / "cache"))
    monkeypatch.setattr("pcgraph.simulation.packages._write", lambda *_: {})
    edge = {"source": "a", "target": "b", "predictor": "python:tests.simulation.test_compiling:counting"}
    nodes = {"a": {"shape": [4]}, "b": {"shape": [3]}}
    spec = {"name": "counting", "nodes": nodes, "edges": [edge], "dynamics": {"rule": "energy", "rate": 0.1}}
    plain, compiled = (pcg.build(pcg.Spec.model_validate(spec), trust=True) for _ in range(2))
    scheduler, clamp = pcg.Scheduler(compiled).compile(**options), {"b": torch.randn(2, 3)}
    expected = [pcg.Scheduler(plain).run(clamp=clamp, steps=3).state.values["a"] for _ in range(2)]
    with pytest.warns(PCGraphWarning) as said:
        found = [scheduler.run(clamp=clamp, steps=3).state.values["a"] for _ in range(2)]
    assert len(said) == 1
    torch.testing.assert_close(found, expected)
