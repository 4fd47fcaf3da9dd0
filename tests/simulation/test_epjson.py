import json
from pathlib import Path

import pytest

from building.description import Building
from building.errors import BadEpjsonError, FailedRunError
from simulation.engine import engine_words, run_engine
from simulation.epjson import check_epjson, hard_sized, load_epjson, stripped


def test_a_misspelt_field_is_found_before_the_engine_ignores_it() -> None:
    epjson = load_epjson("medium_office")
    next(iter(epjson["People"].values()))["floor_area_per_persn"] = 10.0
    with pytest.raises(BadEpjsonError, match="floor_area_per_persn.*silently ignore.*Did you mean 'floor_area_per_person'"):
        check_epjson(epjson, "medium_office")


def test_dangling_names_are_found_before_the_engine_dies_of_them() -> None:
    for object_type, field, kind in (
        ("Lights", "schedule_name", "schedule"),
        ("ZoneInfiltration:DesignFlowRate", "zone_or_zonelist_or_space_or_spacelist_name", "zone"),
        ("InternalMass", "construction_name", "construction"),
    ):
        epjson = load_epjson("medium_office")
        next(iter(epjson[object_type].values()))[field] = "NOPE"
        with pytest.raises(BadEpjsonError, match=f"names the {kind} 'NOPE'"):
            check_epjson(epjson, "medium_office")


def test_an_unknown_object_type_a_missing_model_and_broken_json_are_refused(tmp_path: Path) -> None:
    epjson = load_epjson("medium_office")
    epjson["Peple"] = {"x": {}}
    with pytest.raises(BadEpjsonError, match="Did you mean 'People'"):
        check_epjson(epjson, "medium_office")
    with pytest.raises(BadEpjsonError, match="Did you mean 'medium_office'"):
        load_epjson("medium_offic")
    cut = tmp_path / "cut.epJSON"
    cut.write_text('{"People": {')
    with pytest.raises(BadEpjsonError, match="not valid JSON"):
        load_epjson(str(cut))


def test_the_shipped_model_is_clean() -> None:
    check_epjson(load_epjson("medium_office"), "medium_office")


def test_a_hard_sized_model_has_no_autosized_flow_and_no_sizing_objects() -> None:
    sized = hard_sized("medium_office", "usa_il_chicago")
    left = [
        (t, n, f)
        for t, objects in sized.items()
        for n, o in objects.items()
        for f, v in o.items()
        if str(v).lower() == "autosize"
    ]
    assert left == []
    assert not [t for t in sized if t.startswith("Sizing")]
    flow = sum(o["design_supply_air_flow_rate"] for o in sized["AirLoopHVAC"].values())
    assert flow * 3600 / 4982 == pytest.approx(16.2, abs=0.5)  # m3/h.m2, the default of building.toml


def test_a_dangling_schedule_kills_only_the_child_and_leaves_the_engines_words(tmp_path: Path, office: Building) -> None:
    epjson = stripped(hard_sized("medium_office", "usa_il_chicago"))
    next(iter(epjson["Lights"].values()))["schedule_name"] = "NOPE"
    path = tmp_path / "in.epJSON"
    path.write_text(json.dumps(epjson))
    from simulation.epw import find_weather

    with pytest.raises(FailedRunError, match="NOPE"):
        run_engine(["-w", str(find_weather("usa_il_chicago")), "-d", str(tmp_path), str(path)], tmp_path)
    assert "NOPE" in engine_words(tmp_path)
