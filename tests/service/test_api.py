"""Each route on a store with a month in it; tokens, errors that teach, metrics, and an OpenAPI that documents itself."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sites import NOW, fill, lived, open_rc, two_node_config

from building.errors import BadReadingError
from service import operations
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock
from service.store import SqlStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def service(folder):
    """A service with a month of readings, a plan and a refused message; not started: no broker, no loop."""
    service = Service(two_node_config(folder, api__failed_attempts="100000"), TurnedClock(NOW), open_rc)
    fill(service.store, lived())
    service.store.add_readings([], [BadReadingError(reason="unit", topic="site/<b>", detail="'furlong'")], NOW)
    result = operations.replan(service.store, service.building, open_rc(service.config), service.config, NOW, 24, 6)
    operations.enter_plan(service.store, service.store.start_job("plan", NOW), result, NOW)
    yield service
    service.store.close()


@pytest.fixture(scope="module")
def token(folder) -> str:
    return make_token(folder / "token")


@pytest.fixture(scope="module")
def stranger(service) -> TestClient:
    return TestClient(create_api(service.sources()), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(service, token) -> TestClient:
    return TestClient(create_api(service.sources()), headers={"Authorization": f"Bearer {token}"})


GUARDED = [
    "/metrics",
    *(f"/v1/{r}" for r in ("status", "setpoints", "plan", "front", "calibration", "points", "zones", "jobs", "jobs/1")),
]


@pytest.mark.parametrize("route", [*GUARDED, "/v1/series?variable=zone_co2"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic abc", "Bearer é"])
def test_token_missing_or_wrong_is_401_with_a_clear_body(stranger, token, route, header) -> None:
    answer = stranger.get(route, headers={} if header is None else {"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    body = answer.json()
    assert body["error"] == "NotAuthorisedError"
    assert "token" in body["message"].lower() or "Bearer" in body["message"]
    assert "Authorization: Bearer" in body["what_to_do"]


@pytest.mark.parametrize("route", ["/v1/calibrations", "/v1/plans", "/v1/forecasts"])
def test_nothing_can_be_asked_without_a_token(stranger, service, token, route) -> None:
    assert stranger.post(route, json={}).status_code == 401
    assert not service.jobs.running()


def test_health_needs_no_token(stranger) -> None:
    assert (stranger.get("/healthz").status_code, stranger.get("/healthz").text) == (200, "ok\n")


def test_service_is_not_ready_with_a_reason_when_the_store_does_not_answer(tmp_path) -> None:
    service = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    client = TestClient(create_api(service.sources()))
    (tmp_path / "setwise.db").unlink()
    service.store.close()
    (tmp_path / "setwise.db").mkdir()
    assert client.get("/healthz").status_code == 200  # alive all the same
    answer = client.get("/readyz")
    assert answer.status_code == 503 and answer.json()["error"] == "StoreError"


def test_open_service_asks_for_no_token(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, api__is_open="true"), TurnedClock(NOW), open_rc)
    assert TestClient(create_api(service.sources())).get("/v1/status").status_code == 200
    service.store.close()


def test_setpoints_are_those_of_the_guard_with_units_and_an_end(client, service) -> None:
    answer = client.get("/v1/setpoints").json()
    shown = {s["variable"]: s for s in answer["settings"]}
    assert {n: s["value"] for n, s in shown.items()} == service.decide().settings
    assert shown["heating_setpoint"]["unit"] == "degC"
    assert pd.Timestamp(shown["heating_setpoint"]["valid_until"]) == NOW.floor("15min") + pd.Timedelta(minutes=45)
    # The plan was made with default parameters: the guard wants a calibration first, and says so.
    assert answer["origin"] == "own" and "calibration" in answer["notes"][0]


def test_plan_shows_settings_hour_by_hour_and_its_promise(client) -> None:
    plan = client.get("/v1/plan").json()
    assert plan["is_in_force"] and len(plan["stamps"]) == len(plan["settings"]["heating_setpoint"]["values"]) == 168
    assert set(plan["meta"]["predicted"]) == {"energy", "discomfort", "co2_excess", "moisture_risk"}


def test_front_marks_the_chosen_plan_and_names_units(client) -> None:
    front = client.get("/v1/front").json()
    plan = client.get("/v1/plan").json()
    chosen = [p for p in front["points"] if p["is_chosen"]]
    assert len(chosen) == 1 and front["objectives"]["energy"] == "kWh"
    assert chosen[0]["values"]["energy"] == pytest.approx(plan["meta"]["predicted"]["energy"], abs=1e-3)
    assert {"own", "rules"} <= set(front["references"])


def test_points_tell_topic_unit_and_age_of_the_last_reading(client) -> None:
    points = {p["variable"]: p for p in client.get("/v1/points").json()}
    assert points["zone_co2"]["topic"] == "site/zone_co2" and points["zone_co2"]["unit"] == "ppm"
    assert points["zone_co2"]["age_s"] == pytest.approx((NOW - NOW.floor("h")).total_seconds() + 3600)


def test_zones_stand_against_the_band_of_the_season(client) -> None:
    answer = client.get("/v1/zones").json()
    assert answer["is_occupied"] is True
    zone = answer["zones"][0]
    assert (zone["low"], zone["high"]) == (20.0, 24.0)
    wanted = "cold" if zone["air_temperature"] < 20 else "warm" if zone["air_temperature"] > 24 else "ok"
    assert zone["state"] == wanted


def test_series_are_hourly_with_gaps_as_null(client) -> None:
    end = NOW + pd.Timedelta(hours=3)
    answer = client.get("/v1/series", params={"variable": ["zone_co2", "system_on"], "end": end.isoformat()}).json()
    values = answer["series"]["zone_co2"]["values"]
    assert len(values) == len(answer["stamps"]) and values[-1] is None and isinstance(values[0], float)
    raw = client.get("/v1/series", params={"variable": "zone_co2", "is_raw": True}).json()
    assert None not in raw["series"]["zone_co2"]["values"]


def test_predicted_series_reach_from_last_week_into_the_coming_one(client) -> None:
    answer = client.get("/v1/series", params={"variable": "zone_air_temperature", "kind": "predicted"}).json()
    values = answer["series"]["zone_air_temperature"]["values"]
    assert len(values) == 336 and None not in values[:335]


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("variable=zone_co3", 404, "Did you mean 'zone_co2'?"),
        ("", 422, "variable"),
        ("variable=zone_co2&start=yesterday", 422, "start"),
        ("variable=zone_co2&start=2026-02-02T00:00Z&end=2026-02-01T00:00Z", 422, "empty"),
        ("variable=zone_co2&start=1900-01-01T00:00Z", 422, "1970 .. 2200"),
        ("variable=zone_co2&start=1990-01-01T00:00Z", 422, "200000"),
        ("variable=zone_co2&kind=wished", 422, "kind"),
    ],
)
def test_series_that_cannot_be_answered_say_why(client, query, code, said) -> None:
    answer = client.get(f"/v1/series?{query}")
    assert answer.status_code == code
    assert said in answer.json()["message"] and answer.json()["what_to_do"]


def test_status_is_one_page_of_everything(client) -> None:
    status = client.get("/v1/status").json()
    assert status["building"] == "two_node" and status["is_broker_connected"] is False
    assert status["refusals"][0] == {
        "reason": "unit", "n": 1, "last": "2026-02-02T15:10:00Z", "topic": "site/<b>", "detail": "'furlong'",
    }  # fmt: skip
    assert status["jobs"][0]["kind"] == "plan" and status["rows"]["plans"] == 1


def test_route_that_does_not_exist_and_job_that_does_not_exist_are_problems(client) -> None:
    for route in ("/v2/plan", "/v1/jobs/99"):
        answer = client.get(route)
        assert answer.status_code == 404 and set(answer.json()) == {"error", "message", "facts", "what_to_do"}


def test_calibration_before_the_first_one_is_null_and_later_shows_accepted_and_refused(client, service) -> None:
    answer = client.get("/v1/calibration").json()
    assert (answer["accepted"], answer["last"]) == (None, None)
    service.store.add_calibration({"parameters": {"infiltration": 1.6}, "refusals": []}, NOW, is_accepted=True)
    service.store.add_calibration(
        {"parameters": {"infiltration": 9.0}, "refusals": ["x"]}, NOW + pd.Timedelta(hours=1), is_accepted=False
    )
    answer = client.get("/v1/calibration").json()
    assert answer["accepted"]["calibration"]["parameters"] == {"infiltration": 1.6}
    assert answer["last"]["state"] == "refused"
    setpoints = client.get("/v1/setpoints").json()
    assert setpoints["origin"] == "optimised"


def test_plan_older_than_its_validity_is_replaced_by_the_own_schedule(tmp_path) -> None:
    service = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    client = TestClient(create_api(service.sources()), headers={"Authorization": f"Bearer {make_token(tmp_path / 'token')}"})
    fill(service.store, lived(hours=48))
    result = operations.replan(service.store, service.building, open_rc(service.config), service.config, NOW, 16, 2)
    service.store.add_calibration({"parameters": {}}, NOW, is_accepted=True)
    service.store.add_plan(operations.Plan.from_dict(result["plan"]), NOW - pd.Timedelta(hours=47))
    assert client.get("/v1/setpoints").json()["origin"] == "optimised"
    service.clock.turn(NOW + pd.Timedelta(hours=2))
    answer = client.get("/v1/setpoints").json()
    assert answer["origin"] == "own" and "49 h old" in answer["notes"][0]
    own = service.building.own_schedule().unroll(pd.DatetimeIndex([service.clock.now().floor("h")]), "America/Chicago").iloc[0]
    shown = {s["variable"]: s["value"] for s in answer["settings"]}
    assert shown["heating_setpoint"] == own["heating_setpoint"]
    service.store.close()


def test_no_plan_and_no_front_are_404_that_say_how_to_get_one(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, api__is_open="true"), TurnedClock(NOW), open_rc)
    client = TestClient(create_api(service.sources()))
    for route in ("/v1/plan", "/v1/front"):
        answer = client.get(route)
        assert answer.status_code == 404 and "POST /v1/plans" in answer.json()["what_to_do"]
    setpoints = client.get("/v1/setpoints").json()
    assert setpoints["origin"] == "own" and "no plan" in setpoints["notes"][0] and len(setpoints["settings"]) == 5
    service.store.close()


def test_forecast_is_kept_and_shows_as_predicted(client, service) -> None:
    start = NOW.floor("h")
    body = {"issued": NOW.isoformat(), "start": start.isoformat(), "series": {"outdoor_air_temperature": [-3.0, -4.0]}}
    answer = client.post("/v1/forecasts", json=body)
    assert answer.status_code == 201 and answer.json() == {"n_hours": 2, "variables": ["outdoor_air_temperature"]}
    shown = client.get("/v1/series", params={"variable": "outdoor_air_temperature", "kind": "predicted"}).json()
    assert -3.0 in shown["series"]["outdoor_air_temperature"]["values"]


@pytest.mark.parametrize(
    "series", [{"zone_co2": [500.0]}, {"outdoor_air_temperature": [999.0]}, {"outdoor_air_temperature": []}, {"moon": [1.0]}]
)
def test_forecast_of_something_else_or_out_of_range_is_refused(client, series) -> None:
    body = {"issued": NOW.isoformat(), "start": NOW.floor("h").isoformat(), "series": series}
    answer = client.post("/v1/forecasts", json=body)
    assert answer.status_code == 422 and answer.json()["what_to_do"]


def test_metrics_carry_units_in_their_names_and_parse(client) -> None:
    lines = client.get("/metrics").text.splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert samples["setwise_mqtt_messages_total"] == "0.0"
    assert samples['setwise_refused_messages_total{reason="unit"}'] == "1.0"
    assert float(samples['setwise_reading_age_seconds{variable="zone_co2"}']) == 4200
    assert float(samples['setwise_setpoint_celsius{variable="heating_setpoint"}']) > 10
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert names >= {key.split("{")[0] for key in samples}


def test_openapi_teaches_units_errors_and_shapes(client) -> None:
    document = json.dumps(client.get("/openapi.json").json())
    for word in ("valid_until", "what_to_do", "token missing, wrong, expired or revoked", "outdoor_air_temperature"):
        assert word in document


def test_store_opened_elsewhere_sees_the_same(service) -> None:
    other = SqlStore(service.config.store.url.get_secret_value())
    assert other.counts()["plans"] == 1
    other.close()


def test_a_predicted_output_has_an_interval_and_what_was_measured_has_none(client) -> None:
    block = client.get("/v1/series?variable=zone_air_temperature&kind=predicted").json()["series"]["zone_air_temperature"]
    known = [(low, v, high) for low, v, high in zip(block["low"], block["values"], block["high"], strict=True) if v is not None]
    assert known and all(low <= v <= high for low, v, high in known) and any(low < high for low, _, high in known)
    measured = client.get("/v1/series?variable=zone_air_temperature").json()["series"]["zone_air_temperature"]
    assert measured["low"] is None and measured["high"] is None
    weather = client.get("/v1/series?variable=outdoor_air_temperature&kind=predicted").json()["series"]
    assert list(weather) == ["outdoor_air_temperature"] and weather["outdoor_air_temperature"]["low"] is None
