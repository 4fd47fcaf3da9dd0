"""What if: the coming week under other settings, as the guard lets them out; from a child that may break, never the service."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
from fastapi.testclient import TestClient
from sites import NOW, fill, hanging_rc, lived, open_rc, two_node_config

from building.errors import NoAnswerError, OutsideBoundsError, TooFewDataError, UnknownNameError
from service import operations, what_if
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock
from service.what_if import Answering, Change, Question, answer, front_plan, prepare

DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    service = Service(two_node_config(tmp_path_factory.mktemp("what-if")), TurnedClock(NOW), open_rc)
    fill(service.store, lived())
    result = operations.replan(service.store, service.building, open_rc(service.config), service.config, NOW, 16, 4)
    operations.enter_plan(service.store, service.store.start_job("plan", NOW), result, NOW)
    yield service
    service.answering.stop()
    service.store.close()


@pytest.fixture(scope="module")
def ask(service):
    ready = prepare(service.store, service.building, open_rc(service.config), service.config, NOW)
    return lambda question: answer(ready, service.store, service.building, service.config, NOW, question)


def figures(said: dict, week: str = "asked") -> dict[str, float]:
    return said["weeks"][week]["figures"]


def test_plan_unchanged_is_answered_with_the_plans_own_figures(ask, service) -> None:
    said = ask(Question("plan"))
    assert figures(said) == pytest.approx(figures(said, "plan"), rel=1e-6)
    promised = service.store.plan_in_force(NOW).plan.meta["predicted"]
    assert {k: v for k, v in figures(said, "plan").items() if k in promised} == pytest.approx(promised, rel=1e-3, abs=1e-3)
    assert figures(said, "plan")["energy"] < figures(said, "own")["energy"]


def test_lower_heating_setpoint_costs_less_energy_and_colder_zones(ask) -> None:
    same, colder = ask(Question("own")), ask(Question("own", (Change("heating_setpoint", by=-2.0),)))
    assert figures(colder)["energy"] < 0.95 * figures(same)["energy"]
    assert figures(colder)["discomfort"] >= figures(same)["discomfort"]
    hourly = [np.mean(s["weeks"]["asked"]["hourly"]["coldest_zone"]) for s in (same, colder)]
    assert hourly[1] < hourly[0] - 0.5
    assert colder["weeks"]["own"] == same["weeks"]["own"]


def test_change_holds_from_its_start_to_before_its_end_only(ask) -> None:
    start = NOW.floor("h") + DAY
    change = Change("heating_setpoint", start, start + pd.Timedelta(hours=3), value=22.0)
    said = ask(Question("own", (change,)))
    own, asked = (np.array(said["weeks"][w]["settings"]["heating_setpoint"]) for w in ("own", "asked"))
    assert asked[24:27] == pytest.approx(22.0) and np.flatnonzero(own != asked).min() >= 24


def test_week_asked_for_is_the_one_the_guard_would_let_out(ask, service) -> None:
    said = ask(Question("own", (Change("heating_setpoint", by=+50.0), Change("system_on", value=0.0))))
    settings, v = said["weeks"]["asked"]["settings"], service.building.settings["heating_setpoint"]
    assert max(settings["heating_setpoint"]) <= v.high
    on = np.array(settings["system_on"])
    assert on[np.array(said["is_occupied"])].min() == 1.0, "people are owed air"
    assert any("heating_setpoint" in n and "outside" in n for n in said["notes"])
    assert any("system_on" in n and "EN 16798-1" in n for n in said["notes"])


def test_hours_a_plan_does_not_cover_follow_the_own_schedule_and_a_note_says_so(service) -> None:
    later = NOW + 3 * DAY
    ready = prepare(service.store, service.building, open_rc(service.config), service.config, later)
    said = answer(ready, service.store, service.building, service.config, later, Question("plan"))
    assert "does not cover 72 of these 168 hours" in said["notes"][0]


def test_point_of_the_front_is_a_plan_and_the_chosen_one_is_the_plan_in_force(ask, service) -> None:
    chosen = service.store.last_front().data["chosen"]
    frame, plan = front_plan(service.store, chosen), service.store.plan_in_force(NOW).plan
    assert frame.to_numpy() == pytest.approx(plan.frame[list(frame)].to_numpy(), abs=1e-3)
    said = ask(Question("front", point=chosen))
    assert figures(said) == pytest.approx(figures(said, "plan"), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("question", "error", "words"),
    [
        (Question("own", (Change("heating_setpont", value=20.0),)), UnknownNameError, "Did you mean 'heating_setpoint'"),
        (Question("own", (Change("heating_setpoint", value=99.0),)), OutsideBoundsError, "99"),
        (Question("front", point=4711), UnknownNameError, "It has the points 0 .. "),
        (Question("front"), UnknownNameError, "It has the points 0 .. "),
    ],
)
def test_question_that_makes_no_sense_is_refused_with_the_facts(ask, question, error, words) -> None:
    with pytest.raises(error, match=words):
        ask(question)


def test_question_of_a_plan_without_a_plan_is_refused(tmp_path) -> None:
    service = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    fill(service.store, lived(hours=200))
    ready = prepare(service.store, service.building, open_rc(service.config), service.config, NOW)
    with pytest.raises(UnknownNameError, match="POST /v1/plans"):
        answer(ready, service.store, service.building, service.config, NOW, Question("plan"))
    with pytest.raises(UnknownNameError, match="no plans of a front yet"):
        answer(ready, service.store, service.building, service.config, NOW, Question("front", point=0))
    service.store.close()


def test_metamodel_that_answers_no_number_is_an_error(service) -> None:
    ready = prepare(service.store, service.building, open_rc(service.config), service.config, NOW)
    broken = replace(ready, situation=replace(ready.situation, correct=lambda y_nto: y_nto * np.nan))
    with pytest.raises(NoAnswerError, match="not a number"):
        answer(broken, service.store, service.building, service.config, NOW, Question("own"))


# -- the child


def test_child_answers_as_the_function_does_and_stays_warm(ask, service) -> None:
    question = Question("own", (Change("heating_setpoint", by=-1.0),))
    first, pid = service.answering.ask(NOW, question), service.answering.pid
    again = service.answering.ask(NOW, question)
    assert service.answering.pid == pid
    assert figures(first) == figures(again) == pytest.approx(figures(ask(question)))


def test_child_that_is_killed_is_an_error_and_the_next_question_starts_another(service) -> None:
    service.answering.ask(NOW, Question("own"))
    os.kill(service.answering.pid, signal.SIGKILL)
    with pytest.raises(NoAnswerError, match="exit code"):
        service.answering.ask(NOW, Question("own"))
    assert service.answering.ask(NOW, Question("own"))["weeks"]


def test_child_that_hangs_is_ended_at_its_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(what_if, "FIRST_LIMIT_S", 0.5)
    answering = Answering(two_node_config(tmp_path), hanging_rc)
    with pytest.raises(NoAnswerError, match="longer than 0.5 s"):
        answering.ask(NOW, Question("own"))
    assert answering.pid is None


def test_child_with_too_much_memory_is_ended(tmp_path) -> None:
    config = two_node_config(tmp_path)
    small = config.model_copy(update={"jobs": config.jobs.model_copy(update={"memory_limit_mb": 1.0})})
    with pytest.raises(NoAnswerError, match="memory"):
        Answering(small, hanging_rc).ask(NOW, Question("own"))


def test_bundle_that_cannot_be_opened_is_an_error_that_says_why(tmp_path) -> None:
    config = two_node_config(tmp_path, building__bundle=str(tmp_path / "nothing"))
    answering = Answering(config, operations.open_bundle)
    with pytest.raises(NoAnswerError, match="nothing"):
        answering.ask(NOW, Question("own"))
    assert answering.pid is None


def test_child_ends_when_nobody_asks(service) -> None:
    answering = Answering(service.config, open_rc, idle_s=0.2)
    answering.ask(NOW, Question("own"))
    pid = answering.pid
    deadline_s = time.monotonic() + 60
    while pid is not None and psutil.pid_exists(pid) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert answering.pid is None


def test_questions_wait_for_their_turn_and_not_for_ever(service, monkeypatch) -> None:
    monkeypatch.setattr(what_if, "PATIENCE_S", 0.1)
    answering = Answering(service.config, open_rc)
    answering._turn.acquire()
    with pytest.raises(NoAnswerError, match="others have been asking"):
        answering.ask(NOW, Question("own"))


def test_stopped_service_starts_no_child(service) -> None:
    answering = Answering(service.config, open_rc)
    answering.stop()
    with pytest.raises(NoAnswerError, match="ending"):
        answering.ask(NOW, Question("own"))


# -- the routes


@pytest.fixture(scope="module")
def client(service):
    return TestClient(
        create_api(service.sources()), headers={"Authorization": f"Bearer {make_token(service.config.api.token_file)}"}
    )


def test_route_answers_with_units_and_all_three_weeks(client) -> None:
    changes = [{"setting": "heating_setpoint", "by": -1, "start": str(NOW), "end": str(NOW + DAY)}]
    said = client.post("/v1/what-if", json={"base": "plan", "changes": changes}).json()
    assert len(said["stamps"]) == len(said["low"]) == len(said["asked"]["hourly"]["hvac_power"]["values"]) == 168
    assert said["units"]["energy"] == "kWh" and said["own"]["settings"]["heating_setpoint"]["unit"] == "degC"
    assert said["plan"]["figures"]["energy"] > 0 and said["calibrated"] is None and said["forecast"]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({}, 422, "base"),
        ({"base": "plan", "changes": [{"setting": "heating_setpoint"}]}, 422, "either value or by"),
        ({"base": "plan", "changes": [{"setting": "heating_setpoint", "value": 99}]}, 422, "99"),
        ({"base": "own", "changes": [{"setting": "x", "value": 1}]}, 404, "'x'"),
        ({"base": "front", "point": 999}, 404, "points 0"),
    ],
)
def test_route_refuses_what_makes_no_sense(client, body, code, words) -> None:
    answer = client.post("/v1/what-if", json=body)
    assert answer.status_code == code, answer.text
    assert words in answer.json()["message"]


def test_route_without_anybody_to_answer_is_503(service) -> None:
    def broken(_question):
        raise NoAnswerError(reason="it took longer than 15 s.")

    sources = replace(service.sources(), what_if=broken)
    client = TestClient(create_api(sources), headers={"Authorization": f"Bearer {make_token(service.config.api.token_file)}"})
    answer = client.post("/v1/what-if", json={"base": "own"})
    assert answer.status_code == 503 and "longer than 15 s" in answer.json()["message"]


def test_too_little_measured_is_said(tmp_path) -> None:
    service = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    with pytest.raises(TooFewDataError):
        service.answering.ask(NOW, Question("own"))
    service.answering.stop()
    service.store.close()


def test_front_point_shows_its_plan_beside_the_own_schedule(client) -> None:
    front = client.get("/v1/front").json()
    chosen = next(i for i, p in enumerate(front["points"]) if p["is_chosen"])
    point, plan = client.get(f"/v1/front/{chosen}").json(), client.get("/v1/plan").json()
    assert point["is_chosen"] and point["values"] == front["points"][chosen]["values"]
    assert point["settings"]["heating_setpoint"]["values"] == pytest.approx(
        plan["settings"]["heating_setpoint"]["values"], abs=1e-3
    )
    assert point["own"] == plan["own"] and len(plan["own"]["heating_setpoint"]["values"]) == len(plan["stamps"])
    assert client.get("/v1/front/999").status_code == 404
