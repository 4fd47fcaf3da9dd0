import pytest

from building.description import load_building
from building.errors import BadDescriptionError, UnknownKeyError, UnknownNameError
from building.indices.limits import LIMITS, MARKS, SOURCES, limit, read_limits, with_overrides
from building.units import QUANTITIES

UNITS = {"1", "h", "l/s", *(q.unit for q in QUANTITIES.values()), *(u for q in QUANTITIES.values() for u in q.edges)}


@pytest.mark.parametrize("name", SOURCES)
def test_every_limit_has_a_unit_a_source_and_a_mark(name):
    row = SOURCES[name]
    assert row.unit in UNITS
    assert len(row.source) > 10
    assert row.mark in MARKS


def test_the_definitions_of_the_bars_are_the_issues():
    bars = {
        "occupied_share": 0.08, "band_cold_low": 20, "band_cold_high": 24, "band_warm_low": 23, "band_warm_high": 26,
        "band_cold_below": 10, "band_warm_above": 15, "co2_above_outdoor": 800,
    }  # fmt: skip
    assert {n: LIMITS[n] for n in bars} == bars


def test_no_shipped_building_moves_the_bars():
    definitions = [n for n, row in SOURCES.items() if row.mark == "D"]
    assert all(load_building("medium_office").limits[n] == LIMITS[n] for n in definitions)


@pytest.mark.parametrize("stem", {n.rsplit("_cat_", 1)[0] for n in LIMITS if "_cat_" in n})
def test_categories_are_ordered_from_high_to_moderate_expectation(stem):
    values = [limit(LIMITS, stem, c) for c in ("I", "II", "III")]
    grows = values == sorted(values)
    falls = values == sorted(values, reverse=True)
    assert len(set(values)) == 3
    assert falls if ("_low" in stem and "air_per" not in stem) or "air_per" in stem else grows


def test_overrides_replace_by_name_and_refuse_unknown_names():
    assert with_overrides({"frost_limit": 8.0})["frost_limit"] == 8.0
    assert LIMITS["frost_limit"] == 5.0
    with pytest.raises(UnknownNameError, match="Did you mean 'frost_limit'"):
        with_overrides({"frost_limits": 8.0})


def test_limits_cannot_be_changed_in_place():
    with pytest.raises(TypeError):
        LIMITS["frost_limit"] = 0.0


def test_unknown_category_is_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="'IV' is not a category of pmv"):
        limit(LIMITS, "pmv", "IV")


GOOD = 'a = { value = 1, unit = "1", source = "somewhere in a book", mark = "R" }'


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (GOOD.replace("value", "vlaue"), UnknownKeyError, "'vlaue' in .a.. Did you mean 'value'"),
        (GOOD.replace(', mark = "R"', ""), BadDescriptionError, "'a' lacks mark"),
        (GOOD.replace('"R"', '"X"'), BadDescriptionError, "mark of 'a' must be one of S, P, I, 2, R, D"),
        (GOOD.replace("= 1,", "= 'one',"), BadDescriptionError, "must be a number, got 'one'"),
        (GOOD.replace("= 1,", "= true,"), BadDescriptionError, "must be a number, got True"),
        ("a = 1", BadDescriptionError, "'a' must be a table"),
        ("a = ", BadDescriptionError, "cannot be read"),
    ],
)
def test_bad_limits_file_is_refused(tmp_path, text, kind, said):
    path = tmp_path / "limits.toml"
    path.write_text(GOOD)
    assert read_limits(path)["a"].value == 1.0
    path.write_text(text)
    with pytest.raises(kind, match=said):
        read_limits(path)


def test_missing_limits_file_is_named(tmp_path):
    with pytest.raises(BadDescriptionError, match="nowhere.toml: cannot be read"):
        read_limits(tmp_path / "nowhere.toml")
