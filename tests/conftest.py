"""What every test has in common: one thread, fixed seeds, hypothesis without a deadline."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# `pytest -n 2` (as `make test` runs them) has a process for each core, and what the tests compute is
# small. The processes that a test starts take the number over. Torch reads it when it is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PCGRAPH_CACHE"] = "0"  # nothing is left in the user's cache, and nothing is read from it

import pytest
import torch
from hypothesis import settings

from pcgraph.simulation.toolchain import NoCompilerError
from tests.examples import AS_WRITTEN

GOLDENS = Path(__file__).parent / "goldens"

torch.set_num_threads(1)

# In CI the examples are the same on every run, so that a failure there is a failure here.
settings.register_profile("default", deadline=None, max_examples=AS_WRITTEN)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("fast", settings.get_profile("default"), max_examples=AS_WRITTEN // 5)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=25 * AS_WRITTEN)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Seed torch before each test, and leave the random state outside as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nothing is installed that could compile."""

    def refuse(device: str) -> None:
        raise NoCompilerError("there is none")

    monkeypatch.setattr("pcgraph.simulation.packages.require_compiler", refuse)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As outside of tests, where torch has several."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny_networks() -> Iterator[None]:
    """Shapes are computed and not imagined, which is faster for tensors of a few numbers.

    What `build` finds out by imagined shapes is tested with the predictors.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcgraph.predictors.build.FakeTensorMode", lambda **_: contextlib.nullcontext())
        yield


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of tensors that published packages computed."""
    return GOLDENS
