"""What every test has in common: few threads, fixed seeds, hypothesis without a deadline."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

GOLDENS = Path(__file__).parent / "goldens"

# `pytest -n 2` (as `make test` runs them) has a process for each core
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)

# In CI the examples are the same on every run, so that a failure there is a failure here.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Seed torch before each test, and leave the random state outside as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of tensors that published packages computed."""
    return GOLDENS
