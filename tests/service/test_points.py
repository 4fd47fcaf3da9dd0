from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.description import Building, load_building
from building.errors import BadDescriptionError, BadReadingError, UnknownKeyError, UnknownNameError
from building.variables import Role
from proof.site import Site
from service import sparkplug
from service.points import REASONS, AgeLimits, Points, PointsFile, load_points, read_forecast, topic_matches
from service.quality import USABLE
from service.store import Reading

OFFICE = load_building("medium_office")
NOW = pd.Timestamp("2026-01-07T16:00Z")
LIMITS = AgeLimits(pd.Timedelta(minutes=5), pd.Timedelta(days=35))


def points_of(commands: dict[str, object] | None = None, **points: dict[str, object]) -> Points:
    return Points(PointsFile.model_validate({"building": "medium_office", "points": points, "commands": commands or {}}), OFFICE)


def usable(readings: list[Reading]) -> list[Reading]:
    return [r for r in readings if r.flag in USABLE]


def only_reason(points: Points, payload: bytes | str, topic: str = "t", is_retained: bool = False) -> str:
    payload = payload.encode() if isinstance(payload, str) else payload
    readings, refused = points.read_message(topic, payload, NOW, LIMITS, is_retained)
    assert usable(readings) == [] and len(refused) == 1, (readings, refused)
    assert refused[0].reason in REASONS
    return str(refused[0].reason)


def value_of(points: Points, payload: str, topic: str = "t") -> float:
    readings, refused = points.read_message(topic, payload.encode(), NOW, LIMITS)
    assert refused == [] and len(readings) == 1, refused
    return readings[0].value


JSON = {"topic": "t", "value": "v", "time": "at"}
TEMPERATURE = points_of(core_mid_air_temperature=JSON)


def message(value: object, at: object = "2026-01-07T15:00Z") -> str:
    return json.dumps({"v": value, "at": at})


def test_json_message_becomes_a_reading_with_its_own_stamp() -> None:
    readings, _ = TEMPERATURE.read_message("t", message(21.5).encode(), NOW, LIMITS)
    (one,) = readings
    assert (one.variable, one.value, one.flag) == ("core_mid_air_temperature", 21.5, "good")
    assert one.stamp == pd.Timestamp("2026-01-07T15:00Z") and one.received == NOW


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (message("unknown"), "not_a_number"),
        (message("unavailable"), "not_a_number"),
        (message(None), "not_a_number"),
        (message(True), "not_a_number"),
        (message([21.5]), "not_a_number"),
        (message("21,5"), "not_a_number"),
        ('{"v": NaN, "at": "2026-01-07T15:00Z"}', "not_a_number"),
        ('{"v": 1e999, "at": "2026-01-07T15:00Z"}', "not_a_number"),
        (message(1000.0), "out_of_range"),
        (message(-999.0), "out_of_range"),
        (message(99.0), "unit_suspect"),
        (message("1_0"), "not_a_number"),
        (message("٢١"), "not_a_number"),
        (message(10**400), "not_a_number"),
        (message(21.5, "01/07/2026 15:00"), "bad_time"),
        (message(21.5, "2026-01-07"), "bad_time"),
        (message(21.5, "2026-01-07T16:06Z"), "from_future"),
        (message(21.5, "2025-11-01T00:00Z"), "too_old"),
        (message(21.5, "yesterday, about"), "bad_time"),
        (message(21.5, ""), "bad_time"),
        (message(21.5, 17), "bad_time"),
        (message(21.5, None), "bad_time"),
        ('{"v": 21.5}', "missing_path"),
        ('{"value": 21.5, "at": "2026-01-07T15:00Z"}', "missing_path"),
        ("21.5", "missing_path"),
        ("{", "malformed_json"),
        ("", "malformed_json"),
        (b"\xff\xfe\x00", "malformed_json"),
        ("[" * 100_000, "malformed_json"),
    ],
)
def test_bad_message_is_refused_by_its_reason(payload: bytes | str, reason: str) -> None:
    assert only_reason(TEMPERATURE, payload) == reason


def test_unknown_topic_is_refused() -> None:
    assert only_reason(TEMPERATURE, message(21.5), topic="t/other") == "unknown_topic"


@pytest.mark.parametrize("payload", ["unknown", "nan", "1_000", "1,000", "NaN", "inf", "", "21.5 degC", "0x10", "true"])
def test_bare_payload_that_is_no_number_is_refused(payload: str) -> None:
    assert only_reason(points_of(core_mid_air_temperature={"topic": "t"}), payload) == "not_a_number"


def test_units_are_converted_at_the_edge() -> None:
    assert value_of(points_of(outdoor_air_temperature={"topic": "t", "unit": "degF"}), "50") == pytest.approx(10.0)
    assert value_of(points_of(facility_electricity={"topic": "t", "unit": "kW"}), " 12.5\n") == pytest.approx(12_500.0)
    assert value_of(points_of(occupancy_share={"topic": "t", "unit": "%"}), "95") == pytest.approx(0.95)
    assert value_of(points_of(system_on={"topic": "t"}), "ON") == 1.0


def test_unit_in_the_message_wins_and_one_of_another_kind_is_refused() -> None:
    points = points_of(core_mid_air_temperature={"topic": "t", "value": "v", "unit_path": "u"})
    assert value_of(points, '{"v": 68, "u": "degF"}') == pytest.approx(20.0)
    assert only_reason(points, '{"v": 20, "u": "kW"}') == "unit"
    assert only_reason(points, '{"v": 20, "u": null}') == "unit"
    assert only_reason(points, '{"v": 20}') == "missing_path"


def test_wrong_unit_that_is_not_named_is_suspected_kept_and_not_used() -> None:
    for name, payload, hint in (
        ("core_mid_air_temperature", b"294.6", "as K it would be inside"),
        ("core_mid_air_temperature", b"72", "as degF it would be inside"),
        ("occupancy_share", b"95", "as % it would be inside"),
    ):
        (one,), (refused,) = points_of(**{name: {"topic": "t"}}).read_message("t", payload, NOW, LIMITS)
        assert (one.flag, one.value, refused.reason) == ("unit_suspect", float(payload), "unit_suspect")
        assert hint in refused.detail


def test_value_that_fits_in_no_unit_is_out_of_range_kept_and_not_used() -> None:
    (one,), (refused,) = points_of(core_mid_air_temperature={"topic": "t"}).read_message("t", b"5000", NOW, LIMITS)
    assert (one.flag, one.value, refused.reason) == ("out_of_range", 5000.0, "out_of_range")


def test_noise_around_a_bound_is_clipped_and_flagged() -> None:
    points = points_of(direct_normal_irradiance={"topic": "t"})
    (one,), _ = points.read_message("t", b"-3", NOW, LIMITS)
    assert (one.value, one.flag) == (0.0, "clipped")
    assert only_reason(points, "-30") == "out_of_range"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("s", 1767798000),
        ("s", "1767798000"),
        ("ms", 1767798000000),
        ("iso", "2026-01-07T09:00:00-06:00"),
        ("iso", "2026-01-07 15:00Z"),
    ],
)
def test_stamps_are_read_in_every_format(kind: str, given: object) -> None:
    points = points_of(core_mid_air_temperature={**JSON, "time_format": kind})
    readings, refused = points.read_message("t", message(20.0, given).encode(), NOW, LIMITS)
    assert refused == [] and readings[0].stamp == pd.Timestamp("2026-01-07T15:00Z")


def test_local_stamps_without_offset_use_the_declared_zone_and_the_repeated_hour_is_refused() -> None:
    points = points_of(core_mid_air_temperature={**JSON, "time_zone": "America/Chicago", "shift_min": -60})
    readings, _ = points.read_message("t", message(20.0, "2026-01-07T10:00").encode(), NOW, LIMITS)
    assert readings[0].stamp == pd.Timestamp("2026-01-07T15:00Z")
    autumn = pd.Timestamp("2026-11-01T08:00Z")
    _, (refused,) = points.read_message("t", message(20.0, "2026-11-01T01:30").encode(), autumn, LIMITS)
    assert refused.reason == "bad_time"


def test_retained_message_without_stamp_is_refused_because_nobody_knows_its_age() -> None:
    assert only_reason(points_of(core_mid_air_temperature={"topic": "t"}), "20", is_retained=True) == "stale_retained"
    readings, _ = TEMPERATURE.read_message("t", message(20.0).encode(), NOW, LIMITS, is_retained=True)
    assert len(readings) == 1


def test_one_message_may_carry_several_variables_each_of_which_stands_alone() -> None:
    points = points_of(
        core_mid_air_temperature={"topic": "t", "value": "zones.0.t"},
        core_top_air_temperature={"topic": "t", "value": "zones.1.t"},
    )
    readings, refused = points.read_message("t", b'{"zones": [{"t": 21}, {"t": "unknown"}]}', NOW, LIMITS)
    assert [r.variable for r in readings] == ["core_mid_air_temperature"] and [e.reason for e in refused] == ["not_a_number"]


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.floats().map(lambda x: str(x).encode()))
def test_no_payload_gets_past_bounds_or_raises(payload: bytes) -> None:
    for points in (TEMPERATURE, points_of(core_mid_air_temperature={"topic": "t"})):
        readings, refused = points.read_message("t", payload, NOW, LIMITS)
        assert len(usable(readings)) + len(refused) == 1
        assert all(math.isfinite(r.value) for r in readings) and all(-10 <= r.value <= 60 for r in usable(readings))


# -- formats


def test_path_leads_through_lists_by_place_name_and_to_every_item() -> None:
    payload = json.dumps({"zones": [{"name": "mid", "t": 21}, {"name": "top", "t": 22}], "room.1": {"t": 23}}).encode()
    for path, expected in (("zones[1].t", 22), ("zones.0.t", 21), ("zones[name=top].t", 22), ('["room.1"].t', 23)):
        readings, refused = points_of(core_mid_air_temperature={"topic": "t", "value": path}).read_message(
            "t", payload, NOW, LIMITS
        )
        assert refused == [] and readings[0].value == expected, path
    for path in ("zones[2].t", "zones[name=cellar].t", "zones.t", "room.1.t"):
        assert only_reason(points_of(core_mid_air_temperature={"topic": "t", "value": path}), payload) == "missing_path"


def test_buffered_samples_in_one_message_are_as_many_readings_each_of_which_stands_alone() -> None:
    points = points_of(core_mid_air_temperature={"topic": "t", "value": "buffer[*].v", "time": "buffer[*].t", "time_format": "s"})
    buffer = [{"t": 1767798000, "v": 21}, {"t": 1767798060, "v": "unknown"}, {"v": 20}, {"t": 1767798120, "v": 22}]
    readings, refused = points.read_message("t", json.dumps({"buffer": buffer}).encode(), NOW, LIMITS)
    assert [(r.value, r.stamp) for r in readings] == [
        (21.0, pd.Timestamp("2026-01-07T15:00Z")),
        (22.0, pd.Timestamp("2026-01-07T15:02Z")),
    ]
    assert [e.reason for e in refused] == ["not_a_number", "missing_path"]
    assert points.read_message("t", b'{"buffer": []}', NOW, LIMITS) == ([], [])
    assert only_reason(points, '{"buffer": 3}') == "missing_path"


def test_home_assistant_states_are_numbers_truths_or_not_known() -> None:
    points = points_of(
        core_mid_air_temperature={"topic": "ha/mid", "format": "home_assistant", "unit": "degF"},
        system_on={"topic": "ha/fan", "format": "home_assistant"},
    )
    assert value_of(points, "68.0", "ha/mid") == pytest.approx(20.0)
    assert value_of(points, "on", "ha/fan") == 1.0 and value_of(points, "off", "ha/fan") == 0.0
    for state in ("unknown", "unavailable", "", "None"):
        _, (refused,) = points.read_message("ha/mid", state.encode(), NOW, LIMITS)
        assert (refused.reason, refused.variable) == ("unavailable", "core_mid_air_temperature")
    assert only_reason(points, "on", "ha/mid") == only_reason(points, "heat", "ha/mid") == "not_a_number"
    readings, _ = points.read_message("ha/mid", b"68", NOW, LIMITS, is_retained=True)  # what a state topic retains is the state
    assert readings[0].stamp == NOW


def test_energy_counter_of_a_power_is_kept_beside_it_in_kilowatt_hours() -> None:
    points = points_of(facility_electricity={"topic": "t", "unit": "MWh", "is_counter": True})
    (one,), _ = points.read_message("t", b"12.5", NOW, LIMITS)
    assert (one.variable, one.value) == ("facility_electricity.counter", 12_500.0)
    assert only_reason(points, "-1") == "out_of_range"
    with pytest.raises(BadDescriptionError, match="'kW' is not a unit of energy"):
        points_of(facility_electricity={"topic": "t", "unit": "kW", "is_counter": True})
    with pytest.raises(BadDescriptionError, match="measures a power"):
        points_of(core_mid_co2={"topic": "t", "is_counter": True})


def test_hours_are_made_by_the_rule_that_fits_variable_and_sender() -> None:
    points = points_of(
        core_mid_air_temperature={"topic": "a"},
        core_top_air_temperature={"topic": "b", "format": "home_assistant"},
        heating_setpoint={"topic": "c"},
        cooling_setpoint={"topic": "d", "sends": "on_change"},
        facility_electricity={"topic": "e", "unit": "kWh", "is_counter": True},
    )
    assert points.rules == {
        "core_top_air_temperature": "hold",
        "heating_setpoint": "last",
        "cooling_setpoint": "hold_last",
        "facility_electricity": "counter",
    }


def metric(value: object, **changes: object) -> sparkplug.Metric:
    facts = {"source": "plant/edge/ahu", "name": "Zone/T", "value": value, "stamp_ms": 1767798000000, "unit": "", **changes}
    return sparkplug.Metric(**facts)  # type: ignore[arg-type]


SPARKPLUG = {"topic": "spBv1.0/plant/DDATA/edge/ahu", "format": "sparkplug", "value": "Zone/T"}


def test_sparkplug_metric_becomes_a_row_in_the_unit_of_its_birth_or_of_the_file() -> None:
    now_ms = round(NOW.timestamp() * 1000)
    bare, told = points_of(core_mid_air_temperature=SPARKPLUG), points_of(core_mid_air_temperature={**SPARKPLUG, "unit": "degC"})
    assert bare.subscriptions == ("spBv1.0/plant/+/edge/#",) and bare.names_of("plant/edge/ahu") == ("core_mid_air_temperature",)
    rows, _ = bare.read_metrics([metric(68.0, unit="degF"), metric(1.0, name="Other")], now_ms, LIMITS)
    assert rows == [("core_mid_air_temperature", 1767798000000, pytest.approx(20.0), "good", now_ms)]
    rows, (doubt,) = told.read_metrics([metric(50.0, unit="degF")], now_ms, LIMITS)
    assert rows[0][3] == doubt.reason == "unit_suspect" and "the sender says degF" in doubt.detail
    for bad, reason in (
        (metric(None), "unavailable"),
        (metric(20.0, is_good=False), "unavailable"),
        (metric("warm"), "not_a_number"),
        (metric(20.0, unit="furlong"), "unit"),
        (metric(20.0, stamp_ms=now_ms + 999_999), "from_future"),
    ):
        rows, (refused,) = bare.read_metrics([bad], now_ms, LIMITS)
        assert rows == [] and refused.reason == reason and refused.reason in REASONS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit": "?"}, "nobody has confirmed it yet"),
        ({"format": "number", "value": "v"}, "'number' has no paths"),
        ({"format": "home_assistant", "time": "t"}, "'home_assistant' has no paths"),
        ({"format": "json"}, "JSON needs the path"),
        ({"value": "a..b"}, "cannot be read"),
        ({"value": "a[*].b[*]"}, "more than one"),
        ({"value": ""}, "a path needs a key"),
        ({"format": "sparkplug", "value": "T"}, "Sparkplug wants"),
        ({"format": "sparkplug", "topic": "spBv1.0/p/NBIRTH/e", "value": "T"}, "Sparkplug wants"),
        ({"format": "sparkplug", "topic": "spBv1.0/p/NDATA/e"}, "Sparkplug wants"),
    ],
)
def test_point_that_does_not_fit_its_format_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadDescriptionError, match=re.escape(said)):
        points_of(core_mid_air_temperature={"topic": "t", **changes})


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_days_of_the_clock_change_are_read_from_local_stamps_with_an_offset_in_fahrenheit(day: str, hours: int) -> None:
    points = points_of(core_mid_air_temperature={**JSON, "unit": "degF", "time_zone": "America/Chicago"})
    start = pd.Timestamp(day, tz="America/Chicago")
    local = pd.date_range(start, start + pd.DateOffset(days=1), freq="h", inclusive="left")
    stamps, refused = [], []
    for t in local:
        now = t.tz_convert("UTC") + pd.Timedelta(minutes=1)
        readings, _ = points.read_message("t", message(68.0, t.isoformat()).encode(), now, LIMITS)
        assert readings[0].value == pytest.approx(20.0)
        stamps.append(readings[0].stamp)
        _, bad = points.read_message("t", message(68.0, t.tz_localize(None).isoformat()).encode(), now, LIMITS)
        refused += [e.reason for e in bad]
    assert len(stamps) == hours and stamps == list(pd.date_range(stamps[0], periods=hours, freq="h"))
    assert refused == (["bad_time"] * 2 if hours == 25 else [])  # 01:00 is there twice, and nobody knows which
    gone = points.read_message("t", message(68.0, "2026-03-08T02:30").encode(), pd.Timestamp("2026-03-08T08:31Z"), LIMITS)
    assert gone[0] == [] and gone[1][0].reason == "bad_time"


# -- the file


def test_office_measures_every_series_but_the_computed_beams_and_may_command_every_setting(
    office: Building, office_points: Points
) -> None:
    series = {v.name for v in (*office.inputs, *office.outputs) if v.role is not Role.PARAMETER}
    assert set(office_points.measured.names) == {n for n in series if not n.endswith("_beam_irradiance")}
    assert set(office_points.commands) == set(office.settings.names)


def test_played_site_and_service_agree_on_every_point(office: Building, office_points: Points) -> None:
    site = Site(office)
    for v in office_points.measured:
        value = 0.3 * v.low + 0.7 * v.high
        topic, payload = site.measure(v.name, value, NOW - pd.Timedelta(hours=1))
        (one,), refused = office_points.read_message(topic, payload, NOW, LIMITS)
        assert refused == [] and one.variable == v.name and one.stamp == NOW - pd.Timedelta(hours=1)
        assert one.value == pytest.approx(value, rel=1e-5)


def test_played_bms_obeys_and_echoes_what_the_service_understands(office: Building, office_points: Points) -> None:
    site = Site(office)
    for v in office.settings:
        topic, payload = office_points.encode_command(v.name, v.high, {"valid_until": "2026-01-07T17:00:00Z", "plan": 3})
        setting, value, echo = site.obey(topic, payload)
        assert setting == v.name and value == pytest.approx(v.high) and echo is not None
        assert json.loads(payload)["plan"] == 3 and office_points.is_echo(echo[0])
        assert office_points.read_echo(*echo) == {v.name: pytest.approx(v.high)}


def test_subscriptions_cover_every_topic_once(office_points: Points) -> None:
    for name, point in office_points.facts.points.items():
        assert sum(topic_matches(f, point.topic) for f in office_points.subscriptions) == 1, name


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a/+", "a/b", True), ("a/+", "a/b/c", False), ("a/#", "a/b/c", True), ("a/#", "a", True), ("#", "a", True),
        ("a/+/c", "a/b/c", True), ("a", "a/b", False), ("+", "a/b", False), ("a/b", "a", False),
    ],
)  # fmt: skip
def test_topic_filters_match_as_in_the_standard(pattern: str, topic: str, expected: bool) -> None:
    assert topic_matches(pattern, topic) is expected


def test_misspelt_names_and_keys_are_refused_with_a_hint(tmp_path: Path, office: Building) -> None:
    file = tmp_path / "points.toml"
    file.write_text('building = "medium_office"\n[points.core_mid_air_temprature]\ntopic = "t"\n')
    with pytest.raises(UnknownNameError, match="Did you mean 'core_mid_air_temperature'"):
        load_points(office, file)
    file.write_text('building = "medium_office"\n[points.core_mid_air_temperature]\ntopci = "t"\n')
    with pytest.raises(UnknownKeyError, match="Did you mean 'topic'"):
        load_points(office, file)
    with pytest.raises(UnknownNameError, match="is not a setting"):
        points_of(commands={"heating_setpont": {"topic": "t"}})
    with pytest.raises(UnknownNameError, match="measurable"):
        points_of(infiltration={"topic": "t"})


def test_unit_zone_topic_or_building_that_cannot_be_is_refused(tmp_path: Path, office: Building) -> None:
    with pytest.raises(BadDescriptionError, match=r"points.core_mid_air_temperature\] unit: 'kW' is not a unit of temperature"):
        points_of(core_mid_air_temperature={"topic": "t", "unit": "kW"})
    with pytest.raises(BadDescriptionError, match="there is no 'Mars/Base'"):
        points_of(core_mid_air_temperature={"topic": "t", "time_zone": "Mars/Base"})
    with pytest.raises(BadDescriptionError, match="is a filter"):
        points_of(core_mid_air_temperature={"topic": "t/+"})
    file = tmp_path / "points.toml"
    file.write_text('building = "small_office"\npoints = {}\n')
    with pytest.raises(BadDescriptionError, match="belongs to 'small_office'"):
        load_points(office, file)


# -- forecasts


def forecast(**changes: object) -> bytes:
    series = {"outdoor_air_temperature": [1.0, 2.0], "occupancy_share": [0.0, 0.5]}
    return json.dumps(
        {"issued": "2026-01-07T15:00Z", "start": "2026-01-07T16:00Z", "step_min": 60, "series": series, **changes}
    ).encode()


def test_forecast_message_becomes_a_frame(office_points: Points) -> None:
    frame, issued = read_forecast("f", forecast(), office_points.forecastable)
    assert issued == pd.Timestamp("2026-01-07T15:00Z") and frame.index[1] == pd.Timestamp("2026-01-07T17:00Z")
    np.testing.assert_array_equal(frame["outdoor_air_temperature"], [1.0, 2.0])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "malformed_json"),
        (b"[]", "missing_path"),
        (forecast(series={"heating_setpoint": [20.0]}), "malformed_json"),
        (forecast(series={"outdoor_air_temperature": [1.0], "occupancy_share": [1.0, 1.0]}), "malformed_json"),
        (forecast(series={}), "malformed_json"),
        (forecast(series={"outdoor_air_temperature": [float("nan")]}), "out_of_range"),
        (forecast(series={"outdoor_air_temperature": [300.0]}), "out_of_range"),
        (forecast(step_min=0), "malformed_json"),
        (forecast(start="soon"), "missing_path"),
    ],
)
def test_bad_forecast_is_refused_whole(office_points: Points, payload: bytes, reason: str) -> None:
    with pytest.raises(BadReadingError) as caught:
        read_forecast("f", payload, office_points.forecastable)
    assert caught.value.reason == reason


def test_quality_of_service_is_asked_for_by_point_and_command(office: Building) -> None:
    facts = PointsFile.model_validate(
        {
            "building": office.name,
            "points": {
                "core_mid_co2": {"topic": "a", "qos": 0},
                "core_top_co2": {"topic": "b", "value": "x", "qos": 0},
                "core_bottom_co2": {"topic": "b", "value": "y"},  # the stricter of two wishes for one topic wins
            },
            "commands": {"heating_setpoint": {"topic": "c", "qos": 2}},
        }
    )
    points = Points(facts, office)
    assert points.low_qos == ("a",) and points.commands["heating_setpoint"].qos == 2
