"""The medium office, and `formula`, which stands in for EnergyPlus."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from building.description import Building, load_building

sys.path.insert(0, str(Path(__file__).parent))  # for formula.py


@pytest.fixture(scope="session")
def office() -> Building:
    return load_building("medium_office")
