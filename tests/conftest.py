"""What every test has in common: few threads, fixed seeds, hypothesis without a deadline."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# `pytest -n 2` (as `make test` runs them) has a process for each core; the processes that a test
# starts take the number over. Set before torch is imported, which reads it once.
THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.examples import AS_WRITTEN  # noqa: E402

GOLDENS = Path(__file__).parent / "goldens"

torch.set_num_threads(THREADS)

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


@pytest.fixture(scope="module")
def tiny_networks() -> Iterator[None]:
    """One thread, and shapes that are computed and not imagined: faster for tensors of a few numbers.

    What `build` finds out by imagined shapes is tested with the predictors.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcgraph.predictors.build.FakeTensorMode", lambda **_: contextlib.nullcontext())
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of tensors that published packages computed."""
    return GOLDENS
