"""Bring your own building: a shop whose IDF comes from elsewhere, written by hand in an old editor; and what is refused.

The shop is the reference stand-alone retail with what users' files have: a zone whose name no topic could carry, in the encoding
of old Windows editors, no run period, an energy management program. It is adopted once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyenergyplus", reason="EnergyPlus comes with the extra 'simulate'")

from pyenergyplus.dataset import ref_models

from building.description import load_building
from building.errors import AlreadyAdoptedError, BadDescriptionError, BadEpjsonError, BadWeatherFileError, FailedRunError
from service.point_list import read_list, write_points
from service.points import load_points
from setwise import main
from simulation.adopt import Adoption, _fitted, adopt
from simulation.airloops import air_loops
from simulation.audit import base_run
from simulation.energyplus import SPIN_UP_H, _run_period, simulate
from simulation.engine import run_engine
from simulation.epjson import Epjson, check_epjson, hard_sized, load_epjson
from simulation.epw import find_weather, read_epw
from simulation.outputs import read_eso
from simulation.place import guess_time_zone, similar_climates
from simulation.sampling import draw_run, load_evaluation
from simulation.survey import check_plant, identifier, thermostats

pytestmark = pytest.mark.engine

ODD_ZONE = "Verkauf Süd 1.OG/2"
PROGRAM = """
  EnergyManagementSystem:ProgramCallingManager, Lights Off, BeginTimestepBeforePredictor, No_Lights;
  EnergyManagementSystem:Program, No_Lights, SET Dummy = 0;
"""


def shop_text() -> str:
    text = Path(ref_models["standalone_retail"]).read_text(encoding="utf-8")
    text = re.sub(r"\n\s*RunPeriod,.*?;[^\n]*", "", text, flags=re.DOTALL)
    assert "RunPeriod," not in text
    return text.replace("Core_Retail", ODD_ZONE) + PROGRAM


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("site") / "my town.epw"
    path.write_bytes(find_weather("usa_il_chicago").read_bytes())
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, weather: Path) -> Adoption:
    folder: Path = tmp_path_factory.mktemp("adopted")
    model = folder / "shop.idf"
    model.write_bytes(shop_text().encode("cp1252"))
    told: list[tuple[int, int, str]] = []
    made = adopt(model, weather, folder / "corner_shop", progress=lambda *a: told.append(a))
    assert [t[0] for t in told] == [1, 2, 3, 4, 5, 6]
    assert not list(folder.glob("*.partial"))
    return made


@pytest.fixture
def refused(tmp_path: Path, weather: Path) -> Callable[[Epjson], None]:
    """Adopt a changed shop; nothing may be left behind."""

    def attempt(epjson: Epjson) -> None:
        model = tmp_path / "changed.epJSON"
        model.write_text(json.dumps(epjson))
        try:
            adopt(model, weather, tmp_path / "building")
        finally:
            assert not (tmp_path / "building").exists() and not list(tmp_path.glob("*.partial"))

    return attempt


def said(shop: Adoption, about: str) -> str:
    return " | ".join(f"{n.kind}: {n.said}" for n in shop.notes if n.about == about)


# ------------------------------------------------------------------------------------------------------------ what is made


def test_zones_are_the_models_own_with_names_that_topics_can_carry(shop: Adoption) -> None:
    names = [z.name for z in shop.building.zones]
    assert names == ["back_space", "front_entry", "front_retail", "point_of_sale", "verkauf_sud_1_og_2"]
    odd = shop.building.zones[-1]
    assert odd.in_model == ODD_ZONE and odd.floor_area == pytest.approx(1600.5, abs=0.1)
    assert shop.building.floor_area == pytest.approx(2294, abs=1)
    assert ODD_ZONE in said(shop, "zone names")


def test_only_what_the_plant_has_is_declared_and_the_rest_is_named(shop: Adoption) -> None:
    b = shop.building
    assert b.settings.names == ("heating_setpoint", "cooling_setpoint", "system_on", "outdoor_air_flow")
    assert "SetpointManager:SingleZone:Reheat" in said(shop, "supply_air_temperature")
    assert "vav_minimum_flow" not in b.parameter_space.names and "VAV:Reheat" in said(shop, "parameters")
    assert "hot_water_gas" not in b.outputs and {"gas_coil_heat", "electric_reheat_heat"} <= set(b.outputs.names)
    assert "front_entry" in said(shop, "cooling_setpoint")


def test_defaults_are_the_models_own_values(shop: Adoption) -> None:
    defaults = shop.building.parameter_space.defaults()
    assert defaults["window_shgc"] == 0.39 and defaults["infiltration"] == 1
    assert defaults["lighting_power_density"] == pytest.approx(16.65, abs=0.05)
    for p in shop.building.parameter_space.parameters:
        assert p.low < defaults[p.name] < p.high


def test_the_own_schedule_is_what_the_models_schedules_say(shop: Adoption) -> None:
    own = shop.building.own_schedule()
    on = own.values[:, :, own.columns.index("system_on")]
    assert on.sum(axis=1).tolist() == [15, 16, 11]  # the shop opens on Sundays as well
    heating = own.values[:, :, own.columns.index("heating_setpoint")]
    assert (heating.min(), heating.max()) == (15.6, 21.0)
    air = own.values[:, :, own.columns.index("outdoor_air_flow")]
    assert air[0, 12] == pytest.approx(4.92, abs=0.05) and air[0, 3] == 0


def test_traps_are_taken_out_and_told(shop: Adoption) -> None:
    model = load_epjson(str(shop.building.folder / "model.epJSON"))
    check_epjson(model, "model.epJSON")
    assert not [t for t in model if t.startswith(("EnergyManagementSystem", "RunPeriod", "SizingPeriod:"))]
    assert "No_Lights" in said(shop, "EnergyManagementSystem:Program") and "confirm" in said(
        shop, "EnergyManagementSystem:Program"
    )
    assert "holidays" in said(shop, "RunPeriodControl:SpecialDays")


def test_a_schedule_that_two_roles_share_is_parted(shop: Adoption) -> None:
    # In the model the same schedule starts the fans and opens the damper; as settings they are two.
    model = load_epjson(str(shop.building.folder / "model.epJSON"))
    dampers = {o["minimum_outdoor_air_schedule_name"] for o in model["Controller:OutdoorAir"].values()}
    fans = {o["availability_schedule_name"] for o in model["Fan:OnOff"].values()}
    follows = {name: f.input for name, f in shop.building.facts.schedules.items()}
    assert {follows[d] for d in dampers} == {"outdoor_air_flow"} and {follows[f] for f in fans} == {"system_on"}
    assert not dampers & fans


def test_a_winter_and_a_summer_day_are_simulated_as_a_proof(shop: Adoption) -> None:
    assert 1500 < shop.proof["winter_kwh"] < 5000
    assert 500 < shop.proof["summer_kwh"] < 3000
    assert "21" in said(shop, "two days simulated")


def test_windows_are_drawn_for_the_settings_it_has_in_its_own_hours(shop: Adoption) -> None:
    ranges = load_evaluation(shop.building)
    assert Path(ranges.climates[0]) == shop.building.folder / "my town.epw"
    assert set(ranges.held_out_climates).isdisjoint(ranges.climates)
    space = shop.building.parameter_space
    for number in range(4):
        drawn = draw_run(
            shop.building, ranges, space.from_unit(np.full(len(space), 0.5)), number, 7,
            n_windows=2, climates=ranges.climates, held_out_week=False, is_training=True,
        )  # fmt: skip
        assert list(drawn.run.series) == [*shop.building.settings.names, *shop.building.facts.occupancy]
    assert ranges.schedules.sunday_share == 0.9 and ranges.occupancy.day == (9, 21)


def test_the_answer_counts_what_a_person_must_look_at(shop: Adoption) -> None:
    facts = shop.facts()
    assert facts["zones"] == 5 and facts["settings"] == 4
    kinds = [row[0] for row in shop.tables()[0][2]]
    assert kinds == sorted(kinds, key=("found", "removed", "left out", "guessed", "confirm").index)
    assert facts["confirm"] == kinds.count("confirm") >= 2


@pytest.mark.slow
def test_adopting_the_office_finds_what_was_written_by_hand(tmp_path: Path, weather: Path) -> None:
    made = adopt(Path(ref_models["medium_office"]), weather, tmp_path / "office").building
    by_hand = load_building("medium_office")
    assert made.settings.names == by_hand.settings.names and made.outputs.names == by_hand.outputs.names
    assert made.parameter_space.names == by_hand.parameter_space.names
    for name, value in by_hand.parameter_space.defaults().items():
        assert made.parameter_space.defaults()[name] == pytest.approx(value, rel=0.01), name
    follows = {n: f.input for n, f in made.facts.schedules.items()}
    dampers = {"MinOA_MotorizedDamper_Sched", "setwise outdoor air"}
    assert {n: f.input for n, f in by_hand.facts.schedules.items() if n not in dampers}.items() <= follows.items()
    ours, theirs = made.own_schedule(), by_hand.own_schedule()
    for name in by_hand.settings.names:
        column = ours.values[:, :, ours.columns.index(name)]
        np.testing.assert_allclose(column, theirs.values[:, :, theirs.columns.index(name)], atol=0.05, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("day", ["2018-01-15", "2018-07-09"])
def test_the_adopted_shop_uses_what_the_model_uses_by_its_own_schedules(shop: Adoption, tmp_path: Path, day: str) -> None:
    """The model alone, with its own schedules and the ground held as setwise holds it, against the adopted one."""
    alone = hard_sized("standalone_retail", "usa_il_chicago")
    ground = next(iter(alone["Site:GroundTemperature:BuildingSurface"].values()))
    ground.update(dict.fromkeys(ground, sum(ground.values()) / len(ground)))
    next(iter(alone["Timestep"].values()))["number_of_timesteps_per_hour"] = 4
    run = base_run(shop.building, day, hours=168)
    # The model's clock knows no daylight saving; nor shall ours here.
    run = replace(run, series=shop.building.own_schedule().unroll(pd.DatetimeIndex(run.series.index), "Etc/GMT+6"))
    alone["RunPeriod"] = {"run": _run_period(pd.DatetimeIndex(run.series.index), -6)}
    meters = {"heat": "HeatingCoils:EnergyTransfer", "cold": "CoolingCoils:EnergyTransfer", "electricity": "Electricity:Facility"}
    alone["Output:Meter"] = {k: {"key_name": m, "reporting_frequency": "Hourly"} for k, m in meters.items()}
    (tmp_path / "in.epJSON").write_text(json.dumps(alone))
    run_engine(["-w", str(find_weather("usa_il_chicago")), "-d", str(tmp_path), str(tmp_path / "in.epJSON")], tmp_path)
    series = read_eso(tmp_path / "eplusout.eso")
    by_itself = {k: series["METER", m][SPIN_UP_H:].sum() / 3600 for k, m in meters.items()}
    frame = simulate(shop.building, run).iloc[SPIN_UP_H:]
    adopted = {
        "heat": (frame["gas_coil_heat"] + frame["electric_reheat_heat"]).sum(),
        "cold": frame["coil_cooling"].sum(),
        "electricity": frame["facility_electricity"].sum(),
    }
    for use, wh in by_itself.items():
        assert adopted[use] == pytest.approx(wh, rel=0.03, abs=2e4), use


# ------------------------------------------------------------------------------------------------------------- its points


def test_a_list_of_points_becomes_a_points_file_and_what_it_lacks_stands_behind_a_mark(shop: Adoption, tmp_path: Path) -> None:
    listed = tmp_path / "points.csv"
    listed.write_text(
        "variable,topic,unit,value,time\n"
        "verkauf_sud_1_og_2_air_temperature,bms/ahu2/rat,degF,value,ts\n"
        "facility_electricity,meter/main,kW\n"
        "set/heating_setpoint,bms/ahu2/sp,degC\n"
    )
    counts = write_points(shop.building, read_list(listed))
    found = load_points(shop.building)
    assert set(found.measured.names) == {"verkauf_sud_1_og_2_air_temperature", "facility_electricity"}
    assert found.facts.points["verkauf_sud_1_og_2_air_temperature"].time == "ts"
    assert set(found.commands) == {"heating_setpoint"}
    assert counts["points_listed"] == 3
    assert "# back_space_co2 = {" in (shop.building.folder / "points.toml").read_text()
    assert write_points(shop.building, []) == {"points_listed": 0, "points_missing": 0}
    assert len(load_points(shop.building).commands) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("variable,topic,unit\nfront_entry_air_temperature,a/b,kW\n", "'kW' is not a unit of temperature"),
        ("variable,topic,unit\nfront_entry_temperature,a/b,degC\n", "line 2.*Did you mean 'front_entry_air_temperature'"),
        ("variable,topic,unit\nset/infiltration,a/b,x\n", "line 2: 'set/infiltration' is no variable"),
        ("variable;topic;unit\nfront_entry_co2;a/b;ppm\n", "nobody reads the column 'variable;topic;unit'"),
        ("variable,topic\nfront_entry_co2,\n", "line 2 needs a variable and a topic"),
        ("variable,topic\nfront_entry_co2,a\nfront_entry_co2,b\n", "line 3: 'front_entry_co2' stands there twice"),
        ("", "the first line must name the columns"),
    ],
)
def test_a_bad_list_of_points_is_refused_by_its_line(shop: Adoption, tmp_path: Path, text: str, told: str) -> None:
    listed = tmp_path / "points.csv"
    listed.write_text(text)
    before = (shop.building.folder / "points.toml").read_bytes() if (shop.building.folder / "points.toml").exists() else None
    with pytest.raises(BadDescriptionError, match=told):
        write_points(shop.building, read_list(listed))
    path = shop.building.folder / "points.toml"
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_wrong_list_leaves_the_building_adopted_and_says_how_to_go_on(
    shop: Adoption, weather: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simulation.adopt.adopt", lambda *_a, **_k: shop)
    folder, listed = shop.building.folder, tmp_path / "points.csv"
    listed.write_text("variable,topic,unit\nfront_entry_air_temperature,a/b,kW\n")
    assert main(["adopt", "shop.idf", "--weather", str(weather), "--out", str(folder), "--points", str(listed)]) == 2
    assert f"correct the list, then: setwise points {folder} --list {listed}" in capsys.readouterr().err
    assert len(load_points(shop.building).commands) == 4, "a template"
    listed.write_text("variable,topic,unit\nfront_entry_air_temperature,a/b,degF\n")
    assert main(["points", str(folder), "--list", str(listed)]) == 1, "much is missing"
    assert load_points(shop.building).measured.names == ("front_entry_air_temperature",)


# ------------------------------------------------------------------------------------------------------- what is refused


def test_a_model_of_another_version_is_refused_with_what_to_do(tmp_path: Path, weather: Path) -> None:
    model = tmp_path / "old.idf"
    model.write_text("Version,9.6;\nBuilding,old;\n")
    with pytest.raises(BadEpjsonError, match=r"Version '9\.6'.*EnergyPlus 25\.2.*IDFVersionUpdater"):
        adopt(model, weather, tmp_path / "b")
    model.write_text("! Version,25.2;\nBuilding,old;\n")
    with pytest.raises(BadEpjsonError, match="Version 'not stated'"):
        adopt(model, weather, tmp_path / "b")


def test_a_weather_file_with_a_missing_row_is_refused_by_its_row(tmp_path: Path, weather: Path) -> None:
    lines = weather.read_text(encoding="latin-1").splitlines()
    torn = tmp_path / "torn.epw"
    torn.write_text("\n".join(lines[:1008] + lines[1009:]), encoding="latin-1")
    with pytest.raises(BadWeatherFileError, match="row 1009 is hour"):
        adopt(Path(ref_models["standalone_retail"]), torn, tmp_path / "b")


def test_a_folder_that_holds_a_building_is_never_overwritten(shop: Adoption, weather: Path) -> None:
    with pytest.raises(AlreadyAdoptedError, match="corrected by hand"):
        adopt(Path(ref_models["standalone_retail"]), weather, shop.building.folder)


def test_a_folder_that_cannot_be_a_name_is_refused_with_one_that_can(tmp_path: Path, weather: Path) -> None:
    with pytest.raises(BadDescriptionError, match="Call it 'my_shop'"):
        adopt(tmp_path / "never_read.idf", weather, tmp_path / "My Shop")


def test_a_time_zone_nobody_knows_is_refused_before_any_engine_starts(tmp_path: Path, weather: Path) -> None:
    with pytest.raises(BadDescriptionError, match="not an IANA time zone"):
        adopt(tmp_path / "never_read.idf", weather, tmp_path / "b", time_zone="Europ/Paris")


def test_a_model_without_a_thermostat_is_refused(refused: Callable[[Epjson], None]) -> None:
    epjson = load_epjson("standalone_retail")
    del epjson["ZoneControl:Thermostat"]
    with pytest.raises(BadEpjsonError, match="no zone has a thermostat"):
        refused(epjson)


def test_a_thermostat_without_both_setpoints_is_refused_by_its_name(refused: Callable[[Epjson], None]) -> None:
    epjson = load_epjson("standalone_retail")
    epjson["ThermostatSetpoint:SingleHeating"] = {"Only Heat": {"setpoint_temperature_schedule_name": "HTGSETP_SCH"}}
    thermostat = epjson["ZoneControl:Thermostat"]["Front_Entry Thermostat"]
    thermostat |= {"control_1_object_type": "ThermostatSetpoint:SingleHeating", "control_1_name": "Only Heat"}
    with pytest.raises(BadEpjsonError, match=r"'Front_Entry Thermostat'.*'Only Heat'.*a cooling setpoint.*DualSetpoint"):
        refused(epjson)
    dual = next(iter(load_epjson("standalone_retail")["ThermostatSetpoint:DualSetpoint"]))
    epjson = load_epjson("standalone_retail")
    del epjson["ThermostatSetpoint:DualSetpoint"][dual]["cooling_setpoint_temperature_schedule_name"]
    with pytest.raises(BadEpjsonError, match=f"'{dual}': it lacks the schedule"):
        refused(epjson)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("primary_school", "Boiler:HotWater 'HeatSys1 Boiler'.*hot-water plant.*There are 1 of this type"),
        ("small_hotel", "ZoneHVAC:PackagedTerminalAirConditioner '.*no knob and no output"),
        ("large_office", "Boiler:HotWater"),
    ],
)
def test_plant_that_no_knob_knows_is_refused_by_object(model: str, told: str) -> None:
    with pytest.raises(BadEpjsonError, match=told):
        check_plant(load_epjson(model), Path(f"{model}.idf"))


def test_a_model_without_air_loops_is_refused(refused: Callable[[Epjson], None]) -> None:
    epjson = load_epjson("standalone_retail")
    del epjson["AirLoopHVAC"]
    with pytest.raises(BadEpjsonError, match="no air loop"):
        refused(epjson)


def test_a_name_that_would_kill_the_engine_is_found_first_and_others_in_the_engines_words(
    refused: Callable[[Epjson], None],
) -> None:
    epjson = load_epjson("standalone_retail")
    next(iter(epjson["Lights"].values()))["schedule_name"] = "NOPE"  # a segmentation fault of the engine
    with pytest.raises(BadEpjsonError, match="Lights 'Back_Space_Lights': 'schedule_name' names the schedule 'NOPE'"):
        refused(epjson)
    epjson = load_epjson("standalone_retail")
    next(iter(epjson["AirLoopHVAC"].values()))["branch_list_name"] = "NOWHERE"
    with pytest.raises(FailedRunError, match="NOWHERE"):
        refused(epjson)


def test_a_broken_file_is_refused_in_the_engines_words(tmp_path: Path, weather: Path) -> None:
    model = tmp_path / "cut.idf"
    model.write_text("Version,25.2;\nBuildin,old;\n")
    with pytest.raises((FailedRunError, BadEpjsonError), match="Buildin"):
        adopt(model, weather, tmp_path / "b")
    cut = tmp_path / "cut.epJSON"
    cut.write_text('{"Version": {"Version 1": {"version_identifier": "25.2"}}, "Zone": {')
    with pytest.raises(BadEpjsonError, match="not valid JSON"):
        adopt(cut, weather, tmp_path / "b")


# ------------------------------------------------------------------------------------------------------------- its parts


def test_air_loops_are_followed_by_nodes_not_by_names() -> None:
    loops = {loop.name: loop for loop in air_loops(load_epjson("medium_office"))}
    assert {name: len(loop.zones) for name, loop in loops.items()} == {"VAV_1": 5, "VAV_2": 5, "VAV_3": 5}
    assert loops["VAV_2"].controllers == ("VAV_2_OA_Controller",)
    assert "core_mid" in loops["VAV_2"].zones


def test_a_dual_setpoint_tells_its_zones() -> None:
    heads = thermostats(load_epjson("medium_office"), Path("office"))
    assert sorted(z for t in heads for z in t.zones) == sorted(z.name for z in load_building("medium_office").zones)


def test_names_become_identifiers_that_never_meet() -> None:
    assert [identifier(t) for t in ("Büro 1.OG / Straße", "1st floor", "ZONE-3", "***")] == [
        "buro_1_og_strasse", "zone_1st_floor", "zone_3", "zone",
    ]  # fmt: skip


def test_several_schedules_follow_one_share_as_straight_lines() -> None:
    share = np.array([[0.0, 0.5, 1.0, 0.5]])
    same = _fitted(share, share, "occupancy_share")
    assert (same.at_zero, same.at_one) == (0, 1)
    half = _fitted(0.2 + 0.6 * share, share, "occupancy_share")
    assert (half.at_zero, half.at_one) == (0.2, 0.8)
    flat = _fitted(np.full_like(share, 0.4), share, "occupancy_share")
    assert (flat.at_zero, flat.at_one) == (0.4, 0.4)


def test_the_time_zone_and_the_climates_follow_from_the_weather_files_place() -> None:
    zones = {name: guess_time_zone(read_epw(find_weather(name))) for name in ("usa_il_chicago", "usa_az_phoenix", "usa_fl_miami")}
    assert zones["usa_il_chicago"] == "America/Chicago" and zones["usa_az_phoenix"] == "America/Phoenix"
    alike, apart = similar_climates(read_epw(find_weather("usa_il_chicago")))
    assert "usa_fl_miami" not in alike and not set(alike) & set(apart) and len(alike) <= 4
