"""What every folder of tests may use. Randomness: a test that draws takes `rng`, or seeds its own generator."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from building.description import Building, load_building
from simulation.rc import RcPredictor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))  # for postgres.py, recovery.py and served.py

# The same examples on every run, and no clock: a busy machine must not fail a property.
settings.register_profile("setwise", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("setwise")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260105)


@pytest.fixture
def recovery(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A stop-watch for a test marked `faults("name")`; slower than tests/recovery.py states is a failure."""
    from recovery import FAULTS, MEASURED, Recovery

    (name,) = request.node.get_closest_marker("faults").args
    watch = Recovery(FAULTS[name])
    yield watch
    MEASURED[name] += watch.measured_s
    assert max(watch.measured_s, default=0.0) <= watch.fault.within_s, f"{name}: {watch.fault.recovery} took {watch.measured_s} s"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """After `pytest -m faults`: what was broken, what is lost, how long it took to be right again."""
    if "faults" in config.option.markexpr and "not faults" not in config.option.markexpr:
        from recovery import table

        terminalreporter.section("faults, what is lost, how long recovery takes")
        for line in table():
            terminalreporter.write_line(line)


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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real PostgreSQL; a test that needs one skips where there is none, and says why."""
    from postgres import NoPostgresError, server_url

    try:
        with server_url() as url:
            yield url
    except NoPostgresError as e:
        pytest.skip(str(e))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store, on each database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state' / 'setwise.db'}"
        return
    from postgres import own_schema

    server = request.getfixturevalue("postgres_server")
    with own_schema(server, f"setwise_{request.node.name.encode().hex()[-24:]}") as url:
        yield url
