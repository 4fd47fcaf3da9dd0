"""The knob table on buildings that are not the office: what it finds by object type, and how schedules follow inputs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from building.description import Building, BuildingFile, load_building, parse_strict, read_toml
from building.errors import BadDescriptionError, UnknownNameError
from simulation import knobs
from simulation.audit import base_run
from simulation.energyplus import build_epjson
from simulation.epjson import load_epjson


def changed(office: Building, **facts: object) -> Building:
    data = read_toml(office.folder / "building.toml") | facts
    return Building(parse_strict(BuildingFile, data, "building.toml"), office.folder)


def test_a_schedule_that_the_model_lacks_is_refused_by_name(office: Building) -> None:
    wrong = changed(office, schedules={"HTGSETP": {"input": "heating_setpoint"}})
    with pytest.raises(UnknownNameError, match="'HTGSETP' is not a schedule of the model. Did you mean 'HTGSETP_SCH'"):
        build_epjson(wrong, "usa_il_chicago", {})


def test_a_schedule_that_follows_nothing_is_refused(office: Building) -> None:
    with pytest.raises(BadDescriptionError, match="follows 'heating', which is no setting and no occupancy share"):
        changed(office, schedules={"HTGSETP_SCH": {"input": "heating"}})


def test_schedules_follow_their_inputs(office: Building) -> None:
    series = base_run(office, "2018-01-15", hours=24).series
    driven = knobs.driven(series, office)
    assert list(driven) == list(office.facts.schedules)
    on, off = series["system_on"] == 1, series["system_on"] == 0
    assert set(driven["INFIL_QUARTER_ON_SCH"][on]) == {0.25} and set(driven["INFIL_QUARTER_ON_SCH"][off]) == {1.0}
    damper = driven["MinOA_MotorizedDamper_Sched"]
    assert damper.max() == pytest.approx(2.42 / 5.4) and (damper[off] == 0).all()
    pd.testing.assert_series_equal(driven["BLDG_SWH_SCH"], 0.55 * series["occupancy_share"], check_names=False)


def test_densities_keep_their_spread_over_the_zones() -> None:
    shop = load_epjson("standalone_retail")
    zones = [
        {"name": n.lower(), "floor_area": a, "volume": 6 * a}
        for n, a in (
            ("Back_Space", 379.89), ("Core_Retail", 1600.48), ("Front_Entry", 12.0), ("Front_Retail", 150.81),
            ("Point_Of_Sale", 150.81),
        )
    ]  # fmt: skip
    building = changed(load_building("medium_office"), zones=zones, schedules={})
    before = knobs.densities(shop, "Lights")
    assert len(set(before.values())) > 1
    knobs.lighting_power_density(shop, 20.0, building)
    after = knobs.densities(shop, "Lights")
    ratios = {after[n] / before[n] for n in before}
    assert max(ratios) == pytest.approx(min(ratios)), "all move alike"
    total = sum(after[f"{name}_Lights"] * a for name, a in (("Core_Retail", 1600.48), ("Back_Space", 379.89)))
    rest = sum(
        after[f"{name}_Lights"] * a for name, a in (("Front_Entry", 12.0), ("Front_Retail", 150.81), ("Point_Of_Sale", 150.81))
    )
    assert (total + rest) / building.floor_area == pytest.approx(20.0)


def test_insulation_without_that_name_is_the_layer_of_the_greatest_resistance() -> None:
    shop = load_epjson("standalone_retail")
    named = knobs.insulation(shop, "Roof")
    assert named == [("Material", "IEAD NonRes Roof Insulation")]
    roof = shop["Material"].pop("IEAD NonRes Roof Insulation")
    shop["Material"]["Foam 200"] = roof
    for construction in shop["Construction"].values():
        for layer, name in construction.items():
            construction[layer] = "Foam 200" if name == "IEAD NonRes Roof Insulation" else name
    assert knobs.insulation(shop, "Roof") == [("Material", "Foam 200")]
    before = roof["conductivity"]
    knobs.roof_insulation(shop, 2.0, load_building("medium_office"))
    assert shop["Material"]["Foam 200"]["conductivity"] == before / 2


def test_lists_of_zones_and_spaces_stand_for_their_zones() -> None:
    epjson = {
        "ZoneList": {"All": {"zones": [{"zone_name": "A"}, {"zone_name": "B"}]}},
        "Space": {"A1": {"zone_name": "A"}},
        "SpaceList": {"Some": {"spaces": [{"space_name": "A1"}]}},
    }
    assert knobs.zones_of(epjson, "ALL") == ["a", "b"]
    assert knobs.zones_of(epjson, "some") == ["a"] and knobs.zones_of(epjson, "b") == ["b"]


def test_files_of_a_building_lie_in_its_folder(office: Building, tmp_path: Path) -> None:
    (tmp_path / "site.epw").write_text("x")
    data = read_toml(office.folder / "building.toml")
    data["site"] = data["site"] | {"weather": "site.epw"}
    moved = Building(parse_strict(BuildingFile, data, "building.toml"), tmp_path)
    assert moved.site.weather == str(tmp_path / "site.epw")
    assert moved.file("usa_il_chicago") == "usa_il_chicago"
