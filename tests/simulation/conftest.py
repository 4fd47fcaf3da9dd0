"""A building, a short real run, shared by the tests of the slow truth."""

import pandas as pd
import pytest

pytest.importorskip("pyenergyplus", reason="EnergyPlus comes with the extra 'simulate'")

from building.description import Building, load_building
from simulation.audit import base_run
from simulation.energyplus import simulate


@pytest.fixture(scope="session")
def office() -> Building:
    return load_building("medium_office")


@pytest.fixture(scope="session")
def winter_week(office: Building) -> pd.DataFrame:
    """The office under its own schedule: a week of spin-up and a week in January, as the engine answers."""
    return simulate(office, base_run(office, "2018-01-15", hours=168))
