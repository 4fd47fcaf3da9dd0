"""Schemathesis asks every route of the OpenAPI document what its author did not think of: never a 5xx, always a known shape."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance
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


CHECKS = [not_a_server_error, response_schema_conformance]


def ask_every_route(asked, n_questions: int) -> int:
    """Ask each route of the document `n_questions` things; return how many routes there are.

    Without Schemathesis's own pytest marks: those of 4.32 do not know pytest 9.
    """
    application, headers = asked
    operations_of = [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", application).get_all_operations()]
    for operation in operations_of:

        @given(case=operation.as_strategy())
        @settings(USUAL, max_examples=n_questions)
        def ask(case) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        ask()
    return len(operations_of)


def test_no_question_brings_a_server_error(asked) -> None:
    assert ask_every_route(asked, 8) >= 30


@pytest.mark.slow
def test_no_question_of_many_brings_a_server_error(asked) -> None:
    ask_every_route(asked, 300)
