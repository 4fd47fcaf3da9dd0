"""Schemathesis asks every route of the OpenAPI document what its author did not think of: never a 5xx, always a known shape."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance
from sites import NOW, fill, lived, open_rc, two_node_config

from service import operations
from service.access import ROLES, make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock

USUAL = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The application of a service that lived for two days, a maker of headers, and the store; no child is ever started."""
    folder = tmp_path_factory.mktemp("fuzz")
    service = Service(two_node_config(folder), TurnedClock(NOW), open_rc)
    fill(service.store, lived(hours=48))
    result = operations.replan(service.store, service.building, open_rc(service.config), service.config, NOW, 16, 3)
    operations.enter_plan(service.store, service.store.start_job("plan", NOW), result, NOW)
    service.jobs.start = lambda *_: 1

    def header(role: str) -> dict[str, str]:  # anew each time: an admin's questions may revoke the one before
        return {"Authorization": f"Bearer {make_token(folder / 'token', role)}"}

    yield create_api(service.sources()), header, service.store
    service.store.close()


CHECKS = [not_a_server_error, response_schema_conformance]


def ask_every_route(application, header, role: str, n_questions: int) -> int:
    """Ask each route of the document `n_questions` things; return how many routes there are.

    Without Schemathesis's own pytest marks: those of 4.32 do not know pytest 9.
    """
    operations_of = [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", application).get_all_operations()]
    for operation in operations_of:
        ask_one(operation, header(role), n_questions)
    return len(operations_of)


def ask_one(operation, mine: dict[str, str], n_questions: int) -> None:
    @given(case=operation.as_strategy())
    @settings(USUAL, max_examples=n_questions)
    def ask(case) -> None:
        answer = case.call_and_validate(headers=mine, checks=CHECKS)
        assert answer.status_code != 401

    ask()


@pytest.mark.parametrize("n_questions", [4, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
@pytest.mark.parametrize("role", ROLES)
def test_no_question_of_any_role_brings_a_server_error_and_those_of_a_viewer_change_nothing(
    asked, role: str, n_questions: int
) -> None:
    application, header, store = asked
    before = store.counts()
    assert ask_every_route(application, header, role, n_questions) >= 30
    assert role != "viewer" or store.counts() == before


@pytest.mark.parametrize("n_walks", [4, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_no_walk_from_answer_to_answer_brings_a_server_error(asked, n_walks: int) -> None:
    """What one route answered (a job, a plan, an override, a token) is what the next is asked about."""
    application, header, _ = asked
    schema = schemathesis.openapi.from_asgi("/openapi.json", application)

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def setup(self):
            self.mine = header("admin")

        def get_call_kwargs(self, case):
            return {"headers": self.mine}

        def validate_response(self, response, case, additional_checks=(), **kwargs):
            case.validate_response(response, checks=CHECKS)

    run_state_machine_as_test(Walk, settings=settings(USUAL, max_examples=n_walks, stateful_step_count=8))
