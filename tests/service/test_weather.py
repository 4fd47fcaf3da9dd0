"""The weather service: Open-Meteo's format hour by hour, by HTTP from a server of this test and by MQTT; and what goes wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sites import NOW, open_rc, two_node_config

from building.description import Building
from building.errors import BadReadingError, WeatherServiceError
from building.indices.moisture import relative_humidity
from service.app import Service
from service.clock import TurnedClock
from service.forecast import expected_inputs
from service.health import Part
from service.mqtt import Message
from service.points import Forecasts
from service.weather import address, fetch, read_open_meteo, weather_job

START = NOW.floor("h")


def told(n: int = 49, offset_s: int = 0, **columns: list[Any]) -> dict[str, Any]:
    """Return an answer as Open-Meteo writes it, from START on."""
    local = pd.date_range(START, periods=n, freq="h") + pd.Timedelta(seconds=offset_s)
    hourly: dict[str, list[Any]] = {
        "time": [f"{t:%Y-%m-%dT%H:%M}" for t in local],
        "temperature_2m": [0.5 * i for i in range(n)],
        "relative_humidity_2m": [50] * n,
        "surface_pressure": [990.0] * n,
        "wind_speed_10m": [36.0] * n,
        "direct_normal_irradiance": [10.0 * i for i in range(n)],
        "diffuse_radiation": [5.0 * i for i in range(n)],
    }
    units = {"time": "iso8601", "temperature_2m": "°C", "relative_humidity_2m": "%", "surface_pressure": "hPa"}
    units |= {"wind_speed_10m": "km/h", "direct_normal_irradiance": "W/m²", "diffuse_radiation": "W/m²"}
    return {"utc_offset_seconds": offset_s, "hourly_units": units, "hourly": hourly | columns}


def read(office: Building, answer: object) -> pd.DataFrame:
    return read_open_meteo("weather", json.dumps(answer).encode(), office.inputs)


def test_instants_become_means_of_the_hour_and_radiation_moves_from_the_hour_before(office: Building) -> None:
    frame = read(office, told())
    assert frame.index[0] == START and len(frame) == 48  # the last stamp has no neighbour
    first = frame.iloc[0]
    assert first["outdoor_air_temperature"] == 0.25
    assert first["outdoor_air_pressure"] == 99_000 and first["wind_speed"] == pytest.approx(10)
    assert first["direct_normal_irradiance"] == 10.0  # written at 01:00, the mean of 00:00 .. 01:00
    assert first["diffuse_horizontal_irradiance"] == 5.0
    humidity = relative_humidity(frame["outdoor_air_temperature"], frame["outdoor_air_humidity_ratio"], 99_000.0)
    np.testing.assert_allclose(humidity, 0.5, atol=0.01)


def test_local_stamps_epochs_and_other_units_give_the_same_hours(office: Building) -> None:
    wanted = read(office, told())
    pd.testing.assert_frame_equal(read(office, told(offset_s=-21_600)), wanted)
    seconds = [int(t.timestamp()) for t in pd.date_range(START, periods=49, freq="h")]
    pd.testing.assert_frame_equal(read(office, told(offset_s=-21_600, time=seconds)), wanted)
    answer = told(temperature_2m=[32 + 0.9 * i for i in range(49)], wind_speed_10m=[10.0] * 49)
    answer["hourly_units"] |= {"temperature_2m": "°F", "wind_speed_10m": "m/s"}
    pd.testing.assert_frame_equal(read(office, answer), wanted)


def test_dew_point_stands_in_for_humidity_and_what_is_not_there_is_left_out(office: Building) -> None:
    answer = told(dew_point_2m=[5.0] * 49, temperature_2m=[15.0] * 49)
    answer["hourly_units"]["dew_point_2m"] = "°C"
    for name in ("relative_humidity_2m", "direct_normal_irradiance"):
        del answer["hourly"][name]
    frame = read(office, answer)
    assert "direct_normal_irradiance" not in frame
    humidity = relative_humidity(15.0, frame["outdoor_air_humidity_ratio"], 99_000.0)
    np.testing.assert_allclose(humidity, 0.512, atol=0.005)  # psychrometric tables: 15 degC, dew point 5 degC


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a.pop("hourly"), "malformed_json"),
        (lambda a: a["hourly"].update(time=["2026-01-01T00:00", "2026-01-01T03:00"]), "malformed_json"),
        (lambda a: a["hourly"].update(time=["2026-01-01T00:00+01:00", "2026-01-01T01:00+01:00"]), "malformed_json"),
        (lambda a: a["hourly_units"].update(temperature_2m="rankine"), "unit"),
        (lambda a: a["hourly_units"].pop("temperature_2m"), "unit"),
        (lambda a: a["hourly"].update(temperature_2m=["warm"] * 49), "not_a_number"),
        (lambda a: a["hourly"].update(temperature_2m=[1.0]), "not_a_number"),
        (lambda a: a["hourly"].update(temperature_2m=["4.5"] * 49), "not_a_number"),
        (lambda a: a["hourly"].update(temperature_2m=[True] * 49), "not_a_number"),
        (lambda a: a["hourly"].update(temperature_2m=[10**400] * 49), "not_a_number"),
        (lambda a: a.update(utc_offset_seconds=19_800), "malformed_json"),  # half an hour off: no whole hours in UTC
        (lambda a: a.update(utc_offset_seconds=1e300), "malformed_json"),
        (lambda a: a["hourly"].update(time=[10**17, 10**17 + 3600]), "malformed_json"),
        (lambda a: a["hourly"].update(temperature_2m=[400.0] * 49), "out_of_range"),
        (lambda a: a["hourly"].update(temperature_2m=[None] * 49), "missing_path"),
        (lambda a: a.update(hourly={"time": a["hourly"]["time"]}), "missing_path"),
    ],
)
def test_answer_that_is_no_forecast_is_refused_with_its_reason(
    office: Building, change: Callable[[dict], object], reason
) -> None:
    answer = told()
    change(answer)
    with pytest.raises(BadReadingError) as e:
        read(office, answer)
    assert e.value.facts["reason"] == reason


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, Any]]]:
    """A weather service; `say` what it answers, see what it was asked."""
    say: dict[str, Any] = {"code": 200, "body": json.dumps(told()).encode(), "asked": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            say["asked"] = self.path
            self.send_response(say["code"])
            self.end_headers()
            self.wfile.write(say["body"])

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/v1/forecast?latitude={{latitude}}&apikey=geheim99", say
        http.shutdown()


def service_with(tmp_path, url: str) -> Service:
    return Service(two_node_config(tmp_path, weather__url=url, jobs__weather="20 * * * *"), TurnedClock(NOW), open_rc)


def weather_part(service: Service) -> Part:
    return next(p for p in service.parts() if p.name == "weather")


def test_forecast_of_the_service_is_fetched_for_the_site_kept_with_its_issue_time_and_used_by_a_plan(tmp_path, server) -> None:
    url, say = server
    service = service_with(tmp_path, url)
    service.tick()
    assert weather_part(service).state == "waiting" and "due 2026-02-02 15:20Z" in weather_part(service).next
    job = service.store.start_job("weather", NOW)
    service._enter_weather(job, weather_job(service.config, NOW))
    assert f"latitude={service.building.site.latitude:g}" in say["asked"]
    assert weather_part(service).state == "ok" and "48 h of outdoor_air_temperature" in weather_part(service).fact
    kept = service.store.forecast(["outdoor_air_temperature"], START, START + pd.Timedelta(hours=48), at=NOW)
    assert kept["outdoor_air_temperature"].tolist() == [0.5 * i + 0.25 for i in range(48)]
    before = service.store.forecast(
        ["outdoor_air_temperature"], START, START + pd.Timedelta(hours=48), at=NOW - pd.Timedelta("1min")
    )
    assert before["outdoor_air_temperature"].isna().all()
    past = service.building.own_schedule().unroll(pd.date_range(START, periods=24, freq="h") - pd.Timedelta(days=1), "UTC")
    past = past.assign(**{v: 0.0 for v in service.building.inputs.names if v not in past})
    coming = expected_inputs(
        service.store, past, past, service.building, service.building.own_schedule(), service.building.inputs, START, 72, at=NOW
    )
    assert coming.sources["outdoor_air_temperature"] == "forecast for 48 h, then mean of the last 3 days by hour"
    service.store.close()


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (400, b'{"error": true, "reason": "Cannot take apikey geheim99"}', "it answered 400: Cannot take apikey ..."),
        (503, b"<html>geheim99</html>", "it answered 503."),
        (200, b"x" * 4_000_001, "longer than 4000000 bytes"),
    ],
)
def test_service_that_does_not_answer_well_is_named_without_the_key(tmp_path, server, code, body, said) -> None:
    url, say = server
    say |= {"code": code, "body": body}
    with pytest.raises(WeatherServiceError) as e:
        weather_job(two_node_config(tmp_path, weather__url=url), NOW)
    assert said in str(e.value) and "geheim99" not in str(e.value) and "Plans go on" in str(e.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x?apikey=geheim99", "file:///etc/passwd", "ftp://a/b", ""])
def test_address_that_leads_nowhere_is_refused_without_the_key(tmp_path, url: str) -> None:
    with pytest.raises(WeatherServiceError) as e:
        weather_job(two_node_config(tmp_path, weather__url=url), NOW)
    assert "geheim99" not in str(e.value)


def test_asked_of_a_running_service_the_job_ends_refused_and_the_part_says_why(tmp_path) -> None:
    service = service_with(tmp_path, "http://127.0.0.1:9/x?apikey=geheim99")
    job = service.ask("weather")
    assert service.jobs.wait("weather", 60)
    record = service.store.job(job)
    assert record.outcome == "refused" and record.log.startswith("weather service 127.0.0.1:9: no answer")
    assert weather_part(service).state == "degraded"
    assert "geheim99" not in str(service.config) + record.log + record.tail
    service.store.close()


def test_without_an_address_nobody_is_asked(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, jobs__weather="* * * * *"), TurnedClock(NOW), open_rc)
    service.tick()
    assert service._timetable is not None and service._timetable.due["weather"] is None
    assert not [p for p in service.parts() if p.name == "weather"]
    service.store.close()


def test_same_format_by_mqtt_is_kept_with_the_instant_of_its_arrival(tmp_path) -> None:
    service = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    facts = service.points.facts.model_copy(update={"forecasts": Forecasts(topic="weather", format="open_meteo")})
    service.points.facts = facts
    service.ingest.start()
    service.ingest.take(Message("weather", json.dumps(told()).encode(), 1, False, 0, 1))
    service.ingest.take(Message("weather", b'{"hourly": 1}', 1, False, 0, 2))
    service.ingest.stop()
    kept = service.store.forecast(["outdoor_air_temperature"], START, START + pd.Timedelta(hours=2), at=NOW)
    assert kept["outdoor_air_temperature"].tolist() == [0.25, 0.75]
    assert [r.reason for r in service.store.refusals()] == ["malformed_json"]
    service.store.close()


def test_page_of_the_documentation_has_an_address_that_fills_in(office: Building) -> None:
    from pathlib import Path

    page = (Path(__file__).resolve().parents[2] / "docs" / "connect.md").read_text(encoding="utf-8")
    url = (
        next(line for line in page.splitlines() if line.startswith('url = "https://api.open-meteo.com'))
        .partition('"')[2]
        .rstrip('"')
    )
    filled = address(url, office)
    assert "latitude=41.98&longitude=-87.92&" in filled and "{" not in filled
    for of in ("temperature_2m", "relative_humidity_2m", "surface_pressure", "wind_speed_10m", "direct_normal_irradiance"):
        assert of in filled
    with pytest.raises(WeatherServiceError):
        fetch("https:///nothing", 1)
