"""The office and the bundle that ships, for the tests of the whole chain."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyenergyplus", reason="EnergyPlus comes with the extra 'simulate'")

from building.description import Building, load_building
from models.runtime.bundle import Bundle, load_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def office() -> Building:
    return load_building("medium_office")


@pytest.fixture(scope="session")
def shipped_bundle() -> Bundle:
    return load_bundle(ROOT / "bundles" / "medium_office")
