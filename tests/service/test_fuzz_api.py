"""Schemathesis asks every route of the OpenAPI document what its author did not think of: never a 5xx, always a known shape."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.openapi.checks import response_schema_conformance, status_code_conformance
from sites import NOW, fill, lived, open_rc, two_node_config

from service import operations
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock

USUAL = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The application of a service that lived for two days, and an admin's header; no child is ever started."""
    folder = tmp_path_factory.mktemp("fuzz")
    service = Service(two_node_config(folder), TurnedClock(NOW), open_rc)
    fill(service.store, lived(hours=48))
    result = operations.replan(service.store, service.building, open_rc(service.config), service.config, NOW, 16, 3)
    operations.enter_plan(service.store, service.store.start_job("plan", NOW), result, NOW)
    service.jobs.start = lambda *_: 1
    yield create_api(service.sources()), {"Authorization": f"Bearer {make_token(folder / 'token')}"}
    service.store.close()


@pytest.fixture
def api_schema(asked):
    return schemathesis.openapi.from_asgi("/openapi.json", asked[0])


schema = schemathesis.pytest.from_fixture("api_schema")
CHECKS = (not_a_server_error, status_code_conformance, response_schema_conformance)


@schema.parametrize()
@settings(USUAL, max_examples=8)
def test_no_question_brings_a_server_error(case, asked) -> None:
    case.call_and_validate(headers=asked[1], checks=CHECKS)


@pytest.mark.slow
@schema.parametrize()
@settings(USUAL, max_examples=300)
def test_no_question_of_many_brings_a_server_error(case, asked) -> None:
    case.call_and_validate(headers=asked[1], checks=CHECKS)
