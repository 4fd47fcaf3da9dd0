import re
import shutil
import tomllib

import pytest

from building.description import BUILDINGS, BuildingFile, load_building, parse_strict
from building.errors import BadDescriptionError, UnknownKeyError, UnknownNameError
from building.plan import DEADBAND_K

NAMES = sorted(p.parent.name for p in BUILDINGS.glob("*/building.toml"))
OFFICE = BUILDINGS / "medium_office"


@pytest.fixture
def office(tmp_path):
    """A copy of the medium office whose files a test may spoil: `office(old, new)` replaces text in building.toml."""
    shutil.copytree(OFFICE, tmp_path / "office")

    def spoil(old, new, file="building.toml"):
        path = tmp_path / "office" / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return tmp_path / "office"

    return spoil


@pytest.mark.parametrize("name", NAMES)
def test_every_building_can_be_read_and_has_its_own_schedule(name):
    building = load_building(name)
    schedule = building.own_schedule()
    assert building.name == name
    assert set(schedule.columns) == {*building.facts.settings, *building.facts.occupancy}
    for c, column in enumerate(schedule.columns):
        variable = building.inputs[column]
        assert schedule.values[..., c].min() >= variable.low, column
        assert schedule.values[..., c].max() <= variable.high, column
    if {"heating_setpoint", "cooling_setpoint"} <= set(schedule.columns):
        heating, cooling = (schedule.values[..., schedule.columns.index(c)] for c in ("heating_setpoint", "cooling_setpoint"))
        assert (cooling - heating).min() >= DEADBAND_K


def test_medium_office_has_the_inputs_and_outputs_of_the_design():
    building = load_building("medium_office")
    assert (len(building.inputs), len(building.outputs), len(building.parameter_space), len(building.settings)) == (31, 38, 12, 5)
    assert building.outputs.names[0] == "core_bottom_air_temperature"
    assert building.outputs["core_bottom_co2"].zone == "core_bottom"
    assert building.floor_area == pytest.approx(4982.2, rel=2e-3)  # 53,628 ft2, DOE reference medium office
    assert building.parameter_space.defaults()["occupant_density"] == 0.0538
    assert building.ramps()["supply_air_temperature"] == 4


def test_own_schedule_of_the_office_is_the_shipped_one():
    """Monday 06:00 the fans start, 07:00 the damper opens, 22:00 both stop; Sunday nothing runs."""
    s = load_building("medium_office").own_schedule()
    on, air, heat = (s.values[..., s.columns.index(c)] for c in ("system_on", "outdoor_air_flow", "heating_setpoint"))
    assert on[0].tolist() == [0] * 6 + [1] * 16 + [0] * 2
    assert air[0].nonzero()[0].tolist() == list(range(7, 22))
    assert on[1].nonzero()[0].tolist() == list(range(6, 18))
    assert on[2].sum() == 0
    assert (heat[0, 8], heat[0, 2], heat[2, 12]) == (21.0, 15.6, 15.6)
    assert air.max() == pytest.approx(12.5 * 3.6 / 18.58, abs=0.01)


def test_folder_path_works_as_well_as_a_name(tmp_path):
    shutil.copytree(OFFICE, tmp_path / "elsewhere")
    assert load_building(tmp_path / "elsewhere").folder == tmp_path / "elsewhere"


def test_unknown_building_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="'medium_ofice' is not a building of .*Did you mean 'medium_office'"):
        load_building("medium_ofice")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("latitude =", "latitud =", r"the key 'latitud' in \[site\]. Did you mean 'latitude'"),
        ("title =", "titel =", r"the key 'titel' in \[the top\]. Did you mean 'title'"),
        ("volume = 2698.0", "volumen = 2698.0", r"the key 'volumen' in \[zones.0\]. Did you mean 'volume'"),
        ('scale = "log"', 'scala = "log"', r"the key 'scala' in \[parameters.infiltration\]. Did you mean 'scale'"),
        ("emission = 0.37", "emision = 0.37", r"the key 'emision' in \[carriers.electricity\]. Did you mean 'emission'"),
    ],
)
def test_typo_in_building_toml_is_answered_with_the_nearest_key(office, old, new, said):
    with pytest.raises(UnknownKeyError, match=said):
        load_building(office(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('time_zone = "America/Chicago"\n', "", r"\[site\] time_zone: Field required"),
        ("latitude = 41.98", 'latitude = "north"', r"\[site\] latitude: .*valid number.*got 'north'"),
        ("latitude = 41.98", "latitude = 98", r"\[site\] latitude: .*less than or equal to 90, got 98"),
        ('"America/Chicago"', '"America/Chicgo"', r"\[site\] time_zone: .*not an IANA time zone"),
        (
            "low = -35, high = 50",
            "low = 50, high = -35",
            r"\[weather\] outdoor_air_temperature: .*low 50 must be less than high -35",
        ),
        ("high = 3, scale", "high = 0.1, scale", r"infiltration: .*low 0.2 must be less than high 0.1"),
        ("default = 3.24", "default = 324", r"window_u_factor: .*default 324 lies outside 1 .. 5.7"),
        ('scale = "log"', 'scale = "logarithmic"', r"\[parameters.infiltration\] scale: .*'linear', 'log' or 'choice'"),
        ("price = 0.14", "price = 0.14\nprice_by_hour = [0.1, 0.2]", r"price_by_hour: .*at least 24 items"),
        ("\ncooling_cop = 3.23", "\ncooling_cop = 0", r"\[efficiency\] cooling_cop: .*greater than 0, got 0"),
        ("burner = 0.8", "burner = 80", r"\[efficiency\] burner: .*less than or equal to 1.1, got 80"),
        ("price = 0.14", "price = nan", r"\[carriers.electricity\] price: .*finite number"),
        ("high = 50, meaning", "high = inf, meaning", r"\[weather.outdoor_air_temperature\] high: .*finite number"),
        ("[site]", "[site", "not valid TOML"),
        ('name = "core_mid"', 'name = "core_top"', "zone names repeat"),
    ],
)
def test_bad_building_toml_is_refused_by_section_key_and_value(office, old, new, said):
    with pytest.raises(BadDescriptionError, match=said) as caught:
        load_building(office(old, new))
    assert "building.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('quantity = "temperature", low = -35', 'quantity = "temprature", low = -35', "Did you mean 'temperature'"),
        ("[efficiency]", "[limits]\nfrost_limt = 4\n[efficiency]", "'frost_limt' is not a limit of .*Did you mean 'frost_limit'"),
        ("[settings]", "[settings]\nwind_speed = { quantity = 'share', low = 0, high = 1 }", "'wind_speed' is not a unique name"),
    ],
)
def test_unknown_quantity_or_limit_or_repeated_variable_is_named_on_reading(office, old, new, said):
    with pytest.raises(UnknownNameError, match=said):
        load_building(office(old, new))


def test_limits_of_a_building_override_those_of_the_standards(office):
    building = load_building(office("[efficiency]", "[limits]\nco2_above_outdoor = 600\n[efficiency]"))
    assert building.limits["co2_above_outdoor"] == 600
    assert building.limits["frost_limit"] == load_building("medium_office").limits["frost_limit"]


@pytest.mark.parametrize(
    ("old", "new", "kind", "said"),
    [
        ("[heating_setpoint]", "[heating_setpont]", UnknownKeyError, "Did you mean 'heating_setpoint'"),
        ("saturday", "samstag", BadDescriptionError, "24 numbers for weekday, saturday and sunday: 'saturday'"),
        ("[15.6, 15.6,", "[15.6,", BadDescriptionError, "24 numbers"),
        ("[15.6, 15.6,", "['cold', 15.6,", BadDescriptionError, "24 numbers"),
        ("[15.6, 15.6,", "[nan, 15.6,", BadDescriptionError, "not a number"),
        ("[system_on]", "[system_on", BadDescriptionError, "not valid TOML"),
    ],
)
def test_bad_baseline_toml_is_refused(office, old, new, kind, said):
    with pytest.raises(kind, match=said) as caught:
        load_building(office(old, new, "baseline.toml")).own_schedule()
    assert "baseline.toml" in str(caught.value)


def test_day_of_23_hours_in_every_list_is_refused_too(office):
    folder = office("name =", "name =")
    path = folder / "baseline.toml"
    path.write_text(re.sub(r"= \[[^,]+, ", "= [", path.read_text()))
    with pytest.raises(BadDescriptionError, match="24 numbers"):
        load_building(folder).own_schedule()


def test_missing_baseline_is_named(office):
    folder = office("name =", "name =")
    (folder / "baseline.toml").unlink()
    with pytest.raises(BadDescriptionError, match="baseline.toml: there is no such file"):
        load_building(folder).own_schedule()


def test_column_forgotten_in_the_baseline_is_named(office):
    folder = office("name =", "name =")
    path = folder / "baseline.toml"
    path.write_text(path.read_text().split("[plug_share]")[0])
    with pytest.raises(BadDescriptionError, match="lacks plug_share"):
        load_building(folder).own_schedule()


def test_parse_strict_walks_into_nested_tables():
    data = tomllib.loads((OFFICE / "building.toml").read_text(encoding="utf-8"))
    data["efficiency"]["burnr"] = 0.9
    with pytest.raises(UnknownKeyError, match=r"\[efficiency\]. Did you mean 'burner'"):
        parse_strict(BuildingFile, data, "building.toml")
