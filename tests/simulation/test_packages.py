"""Compiled functions that later processes load: the same numbers, and never those of another function."""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcgraph as pcg
from pcgraph.acceleration.choose import use_tiles
from pcgraph.errors import PCGraphWarning
from pcgraph.files.cache import Cache
from pcgraph.simulation import operations, packages
from pcgraph.simulation.compiling import Compiler, _laid_out, _signature
from pcgraph.simulation.operations import UnfitError
from pcgraph.simulation.toolchain import NoCompilerError
from tests.nets import Residual, TupleOutput, residual


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("PCGRAPH_CACHE", str(tmp_path / "cache"))
    return Cache(tmp_path / "cache")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("rule", "order"),
    [("predify", "sweep"), pytest.param("momentum", "synchronous", marks=pytest.mark.slow)],
)
def test_another_process_loads_what_one_compiled(
    rule: str, order: str, kept: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ["output", "values", "errors", "gradients"]
    plain = pcg.Scheduler(residual(rule, order)).run(images(), steps=5, record=record)
    for attempt in range(2):
        run = pcg.Scheduler(residual(rule, order)).compile().run(images(), steps=5, record=record)
        for quantity in ("values", "errors", "gradients"):
            for name, series in getattr(plain, quantity).items():
                for found, expected in zip(getattr(run, quantity)[name], series, strict=True):
                    if expected is not None:
                        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(run.output[5], plain.output[5], rtol=1e-4, atol=1e-5)
        assert len(kept.entries()) == 3  # the first pass, the step and the readout
        if not attempt:  # from now on nothing may be compiled
            monkeypatch.setattr(packages, "_write", None)


def large_kernels() -> pcg.PCNetwork:
    """Feedback of 10 x 10 in tiles before a ReLU, and of 7 x 7 behind tanh, direct; no backbone."""
    torch.manual_seed(0)
    kernel = {"kernel_size": 7, "padding": 3}
    layers = {
        "b->a": [{"ConvTranspose2d": {"kernel_size": 10, "stride": 2, "padding": 4}}, "ReLU"],
        "c->b": ["Tanh", {"ConvTranspose2d": kernel}],
    }
    nodes = {"a": {"shape": [4, 20, 20]}, "b": {"shape": [32, 10, 10]}, "c": {"shape": [6, 10, 10]}}
    edges = [{"source": e[0], "target": e[-1], "predictor": layer} for e, layer in layers.items()]
    dynamics = {"rule": "energy", "rate": 0.05}
    spec = {"name": "large-kernels", "nodes": nodes, "edges": edges, "dynamics": dynamics}
    network = pcg.build(pcg.parse_spec(spec)).requires_grad_(False)
    use_tiles(network, (("b->a.0", (2, 32, 10, 10), 10),))
    return network


def states(network: pcg.PCNetwork, compiled: bool) -> dict[str, Tensor]:
    """After a run with large kernels."""
    scheduler = pcg.Scheduler(network, direct=True)
    if compiled:
        scheduler.compile()
    else:
        use_tiles(network, ())
    given = torch.randn(2, 4, 20, 20, generator=torch.Generator().manual_seed(1))
    return dict(scheduler.run(given, 3).state.values)


@pytest.mark.heavy
def test_compiled_steps_compute_large_kernels_in_tiles(kept: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = states(large_kernels(), compiled=False)
    for attempt in range(2):
        found = states(large_kernels(), compiled=True)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4 * float(value.abs().max()))
        assert any(not torch.equal(found[name], value) for name, value in expected.items())
        if not attempt:  # from now on nothing may be compiled
            monkeypatch.setattr(packages, "_write", None)
    # transformed weights are arguments: other ones need no other package
    changed = large_kernels()
    direct = large_kernels()
    for network in (changed, direct):
        with torch.no_grad():
            network.predictors["b->a"][0].weight.mul_(-2)
    found, expected = states(changed, compiled=True), states(direct, compiled=False)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4 * float(value.abs().max()))


@pytest.mark.slow
def test_without_a_package_large_kernels_are_computed_directly(
    kept: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = states(large_kernels(), compiled=False)
    monkeypatch.setattr(packages, "_write", None)  # as on a full disk
    scheduler = pcg.Scheduler(large_kernels()).compile(backend="eager")
    scheduler._stepper.compiler.kept = kept
    given = torch.randn(2, 4, 20, 20, generator=torch.Generator().manual_seed(1))
    with pytest.warns(PCGraphWarning, match="is not kept for later processes"):
        found = scheduler.run(given, 3).state.values
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.heavy
def test_other_tiles_and_biases_are_other_packages(kept: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    given = torch.randn(2, 4, 20, 20)
    first = keys(monkeypatch, large_kernels(), given)
    assert keys(monkeypatch, large_kernels(), given) == first
    other, biased, direct = large_kernels(), large_kernels(), large_kernels()
    use_tiles(other, (("b->a.0", (2, 32, 10, 10), 11),))
    with torch.no_grad():
        biased.predictors["b->a"][0].bias[0] += 1e-6
    use_tiles(direct, ())
    found = [keys(monkeypatch, network, given) for network in (other, biased, direct)]
    assert len({*first, *(key for one in found for key in one)}) == 4


@pytest.mark.slow
def test_autocast_is_part_of_what_is_compiled(kept: Cache) -> None:
    scheduler = pcg.Scheduler(residual()).compile()
    plain = pcg.Scheduler(residual())
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = plain.run(images(), 3).output[3], scheduler.run(images(), 3).output[3]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    again = scheduler.run(images(), 3).output[3]
    torch.testing.assert_close(again, plain.run(images(), 3).output[3], rtol=1e-4, atol=1e-5)


def keys(monkeypatch: pytest.MonkeyPatch, network: pcg.PCNetwork, given: Tensor) -> set[str]:
    """The keys of all that a compiled run is made of."""
    found: set[str] = set()

    def load(function: Callable[..., Any], arguments: tuple[Any, ...], kept: Cache) -> Callable[..., Any]:
        with torch.no_grad(), packages._as_if_compiled():
            found.add(packages._key(packages._Flat(function, arguments))[0])
        return function

    monkeypatch.setattr("pcgraph.simulation.compiling.load_or_make", load)
    pcg.Scheduler(network).compile().run(given, steps=2)
    return found


@pytest.mark.heavy
def test_the_key_is_the_function(kept: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keys(monkeypatch, residual(), images())
    assert len(first) == 3
    assert keys(monkeypatch, residual(), images()) == first
    assert not keys(monkeypatch, residual(), images(3)) & first
    assert not keys(monkeypatch, residual(seed=1), images()) & first  # another backbone's weights

    one = residual()
    with torch.no_grad():
        one.predictors["e2->e1"][-1].bias[0] += 1e-6
    assert len(keys(monkeypatch, one, images()) - first) == 1  # the step alone
    other = one.spec.model_copy(update={"dynamics": one.spec.dynamics.model_copy(update={"error": 0.1001})})
    torch.manual_seed(0)
    assert len(keys(monkeypatch, pcg.build(other, model=Residual()), images()) - first) == 1
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert not keys(monkeypatch, residual(), images()) & first
    finally:
        torch.set_num_threads(threads)


def test_what_cannot_be_kept_is_compiled_within_the_process(
    kept: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler(torch.device("cpu"), {"backend": "eager"}, kept=kept)

    def own(x: Tensor) -> Any:
        return OrderedDict(y=x + 1)

    with pytest.warns(PCGraphWarning, match="is not kept for later processes: its results are in a type"):
        assert torch.equal(compiler("key", own, torch.ones(2))["y"], torch.full((2,), 2.0))
    assert kept.entries() == []


def test_a_network_with_hooks_is_compiled_within_the_process(kept: Cache) -> None:
    network = residual()
    assert pcg.Scheduler(network).compile()._stepper.compiler.kept is not None
    network.predictors["e2->e1"].register_forward_hook(lambda *_: None)
    assert pcg.Scheduler(network).compile()._stepper.compiler.kept is None


def test_tensors_have_the_strides_of_new_ones() -> None:
    for shape in ((1, 3, 4, 4), (4, 1, 3, 3), (2, 3, 1, 1), (1, 1, 1, 1), (2, 3), (1,), (2, 3, 4)):
        form = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        expected = torch.empty(shape).contiguous(memory_format=form).stride()
        values = torch.arange(float(torch.Size(shape).numel())).view(shape)
        odd = torch.empty(*shape, 2)[..., 0].copy_(values)
        for one in (values, odd, values.contiguous(memory_format=form)):
            assert _laid_out(one).stride() == expected
            assert torch.equal(_laid_out(one), values)


def test_a_package_is_for_one_signature() -> None:
    a = ({"x": torch.ones(2, 3), "n": None},)
    assert _signature(a) == _signature(({"x": torch.zeros(2, 3), "n": None},))
    others: list[tuple[Any, ...]] = [
        ({"x": torch.ones(3, 2), "n": None},),
        ({"x": torch.ones(2, 3).double(), "n": None},),
        ({"x": torch.ones(2, 3), "n": 1},),
        ({"y": torch.ones(2, 3), "n": None},),
    ]
    assert all(_signature(other) != _signature(a) for other in others)
    with torch.autocast("cpu", torch.bfloat16):
        assert _signature(a) != _signature(({"x": torch.zeros(2, 3)},))


def test_traces_add_without_a_factor() -> None:
    """Inductor takes ``x + 0.1 * (a @ b)``, written with an alpha, for ``x + a @ b``."""
    x, a, b = torch.rand(3, 5), torch.rand(3, 4), torch.rand(4, 5)
    program = packages._trace(packages._Flat(lambda x, a, b: [torch.add(x, a @ b, alpha=0.1)], (x, a, b)))
    assert not any("alpha" in node.kwargs for node in program.graph.nodes)
    torch.testing.assert_close(program(x, a, b)[0], x + 0.1 * (a @ b))


def test_a_tensor_that_comes_twice_is_two_in_a_trace() -> None:
    """Two nodes are given one image, say, or dropout gives its argument back; later they differ."""
    x, y = torch.rand(2, 3, 5).unbind()
    flat = packages._Flat(lambda a, b: [a - 2 * b], (x, x))
    torch.testing.assert_close(packages._trace(flat)(x, y)[0], x - 2 * y)
    assert packages._key(flat) == packages._key(packages._Flat(lambda a, b: [a - 2 * b], (x, y)))
    part = torch.rand(3, 9)[:, 2:6]
    assert [one.stride() for one in packages._Flat(max, (part, part)).tensors] == [(9, 1)] * 2


@pytest.mark.heavy
@pytest.mark.parametrize("package", [True, False])
def test_convolutions_in_float64_are_compiled(package: bool, kept: Cache) -> None:
    """The library that packs weights for the processor has none of float64."""
    backbone, nodes = {"input": [3, 8, 8]}, {"a": "conv"}
    spec = {"name": "maps", "backbone": backbone, "nodes": nodes, "dynamics": {"rule": "energy"}}
    network = pcg.build(pcg.parse_spec(spec), model=TupleOutput()).double()
    given = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    scheduler = pcg.Scheduler(network).compile()
    if not package:
        scheduler._stepper.compiler.kept = None
    free = scheduler.start(given, free=["input"])
    torch.testing.assert_close(free.values["a"], network.drive.model.conv(given))
    assert len(kept.entries()) == package


@pytest.mark.heavy
def test_large_matrices_are_lent(kept: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "LARGE", 4 * 64 * 32)
    torch.manual_seed(0)
    large, small = nn.Linear(64, 32), nn.Linear(32, 8)
    x = torch.randn(1, 64)
    package = packages.load_or_make(lambda x: [small(large(x))], (x,), kept)
    torch.testing.assert_close(package(x)[0], small(large(x)).detach())
    other = nn.Linear(64, 32)
    other.bias = large.bias
    monkeypatch.setattr(packages, "_write", None)  # the same package
    package = packages.load_or_make(lambda x: [small(other(x))], (x,), kept)
    torch.testing.assert_close(package(x)[0], small(other(x)).detach())


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="the system's list of mappings")
def test_weights_are_in_memory_once(kept: Cache) -> None:
    """Torch copies the constants of a library; what it read them from does not stay."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    if [tempfile.gettempdir(), "tmpfs"] in [one[1:3] for one in mounts]:
        pytest.skip("temporary files are in memory themselves")
    matrix = torch.randn(1024, 1024) / 32
    x = torch.randn(2, 1024)
    package = packages.load_or_make(lambda x: [x @ matrix], (x,), kept)
    listed = Path("/proc/self/smaps").read_text()
    libraries = re.findall(r"r--p .*\.wrapper\.so\nSize: +(\d+) kB(?:\n.*)*?\nRss: +(\d+) kB", listed)
    resident = [int(rss) for size, rss in libraries if int(size) >= matrix.nbytes / 1024]
    assert resident
    assert max(resident) < matrix.nbytes / 1024 / 4
    torch.testing.assert_close(package(x)[0], x @ matrix)


def test_what_is_lent_must_be_there() -> None:
    """Else its numbers, which no key holds, would be part of the package."""
    x, matrix = torch.rand(1, 4), torch.rand(4, 3)
    flat = packages._Flat(lambda x: [x @ matrix], (x,))
    other = torch.rand(4, 3)
    torch.testing.assert_close(packages._trace(flat, [matrix])(x, other)[0], x @ other)
    with pytest.raises(UnfitError, match="large matrix"):
        packages._trace(flat, [other])


def test_after_threads_have_looked_at_once_nothing_seems_to_be_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_compiler: None
) -> None:
    monkeypatch.setattr(torch.compiler, "_is_compiling_flag", False)  # to set it back
    first_has_begun, second_has_begun = threading.Event(), threading.Event()

    def look_up(function: Callable[[Tensor], list[Tensor]]) -> None:
        with pytest.raises(NoCompilerError):
            packages.load_or_make(function, (torch.ones(2),), Cache(tmp_path))

    def first(x: Tensor) -> list[Tensor]:
        first_has_begun.set()
        second_has_begun.wait(0.2)
        return [x + 1]

    def second(x: Tensor) -> list[Tensor]:
        second_has_begun.set()
        thread.join(1)
        return [x + 2]

    thread = threading.Thread(target=look_up, args=(first,))
    thread.start()
    first_has_begun.wait()
    look_up(second)
    assert not torch.compiler.is_compiling()
