"""What every folder of tests may use. Randomness: a test that draws takes `rng`, or seeds its own generator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from building.description import Building, load_building
from simulation.rc import RcPredictor

ROOT = Path(__file__).resolve().parent.parent

# The same examples on every run, and no clock: a busy machine must not fail a property.
settings.register_profile("setwise", derandomize=True, deadline=None)
settings.load_profile("setwise")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260105)


@pytest.fixture(scope="session")
def measured_buildings() -> Path:
    """The folder of measured buildings; a test that needs it skips where it is not."""
    folder = Path(os.environ.get("SETWISE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no measured buildings in {folder}; SETWISE_TEST_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def two_node() -> Building:
    return load_building("two_node")


@pytest.fixture(scope="session")
def rc(two_node: Building) -> RcPredictor:
    """The two-node building, solved exactly: a Predictor that answers at once."""
    return RcPredictor(two_node)
