"""A small office, its points, a store in a folder, a clock turned by hand, and real brokers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from building.description import Building, load_building
from proof.broker import Broker, find_mosquitto, start_broker
from service.clock import TurnedClock
from service.points import Points, load_points
from service.store import SqlStore

sys.path.insert(0, str(Path(__file__).parent))  # for sites.py, which the children of jobs import as well


@pytest.fixture(scope="session")
def office() -> Building:
    return load_building("medium_office")


@pytest.fixture(scope="session")
def office_points(office: Building) -> Points:
    return load_points(office)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path / 'setwise.db'}")
    yield store
    store.close()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock(pd.Timestamp("2026-01-07T16:00Z"))  # Wednesday, 10:00 in Chicago


@pytest.fixture(params=["amqtt", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with start_broker(kind=request.param) as broker:
        yield broker
