from pathlib import Path

import numpy as np
import pytest

from building.errors import BadWeatherFileError
from simulation.epw import DIRECT, DRY_BULB, Morph, design_days, find_weather, read_epw, write_morphed

CHICAGO = find_weather("usa_il_chicago")


def broken(tmp_path: Path, change) -> Path:
    lines = CHICAGO.read_text(encoding="latin-1").splitlines()
    path = tmp_path / "broken.epw"
    path.write_text("\n".join(change(lines)) + "\n", encoding="latin-1")
    return path


def test_a_whole_year_is_read_with_its_place() -> None:
    weather = read_epw(CHICAGO)
    assert (weather.latitude, weather.longitude, weather.utc_offset_h) == (41.98, -87.92, -6.0)
    assert len(weather.rows) == 8760
    assert weather.column(DRY_BULB).mean() == pytest.approx(10.0, abs=0.1)


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadWeatherFileError, match="row 109 is hour 6 of 1/5, wanted hour 5 of 1/5: a row is missing"):
        read_epw(broken(tmp_path, lambda lines: lines[:108] + lines[109:]))


def test_a_file_cut_short_a_wild_value_and_a_stranger_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWeatherFileError, match="has 2396 hourly rows"):
        read_epw(broken(tmp_path, lambda lines: lines[:2404]))
    wild = lambda lines: [*lines[:20], lines[20].replace(lines[20].split(",")[6], "99.9", 1), *lines[21:]]
    with pytest.raises(BadWeatherFileError, match=r"row 21 field 7 is 99.9, wanted -70 .. 70"):
        read_epw(broken(tmp_path, wild))
    cell = lambda i, text: (
        lambda lines: [*lines[:20], ",".join([*(r := lines[20].split(","))[:i], text, *r[i + 1 :]]), *lines[21:]]
    )
    for i, text, said in (
        (3, "noon", "is hour noon"),
        (2, "45", "of 1/45, wanted hour 13 of 1/1"),
        (6, "warm", "field 7 is warm"),
    ):
        with pytest.raises(BadWeatherFileError, match=said):
            read_epw(broken(tmp_path, cell(i, text)))
    with pytest.raises(BadWeatherFileError, match="LOCATION line must give latitude"):
        read_epw(broken(tmp_path, lambda lines: [lines[0].replace("41.98", "north"), *lines[1:]]))
    stranger = tmp_path / "x.epw"
    stranger.write_text("hello")
    with pytest.raises(BadWeatherFileError, match="not an EPW"):
        read_epw(stranger)


def test_an_unknown_name_gets_a_hint_and_a_missing_path_is_said() -> None:
    with pytest.raises(BadWeatherFileError, match="Did you mean 'usa_il_chicago'"):
        find_weather("usa_il_chicag")
    with pytest.raises(BadWeatherFileError, match="no such file"):
        find_weather("/nowhere/x.epw")


def test_design_days_come_from_the_header_or_from_the_hours() -> None:
    heating, cooling = design_days(read_epw(CHICAGO)).values()
    assert heating["maximum_dry_bulb_temperature"] == -20.0
    assert cooling["maximum_dry_bulb_temperature"] == 33.3
    assert cooling["wetbulb_or_dewpoint_at_maximum_dry_bulb"] == 23.7
    heating, cooling = design_days(read_epw(find_weather("usa_co_boulder"))).values()  # no design conditions in this header
    assert -25 < heating["maximum_dry_bulb_temperature"] < -10
    assert 28 < cooling["maximum_dry_bulb_temperature"] < 38
    assert cooling["wetbulb_or_dewpoint_at_maximum_dry_bulb"] < cooling["maximum_dry_bulb_temperature"]


def test_morphing_shifts_stretches_and_dims(tmp_path: Path) -> None:
    weather = read_epw(CHICAGO)
    path = tmp_path / "morphed.epw"
    write_morphed(weather, Morph(shift_k=-3, stretch=1.2, radiation=0.5), path)
    morphed = read_epw(path)
    assert morphed.column(DRY_BULB).mean() == pytest.approx(weather.column(DRY_BULB).mean() - 3, abs=0.02)
    assert morphed.column(DRY_BULB).std() == pytest.approx(1.2 * weather.column(DRY_BULB).std(), rel=1e-3)
    np.testing.assert_allclose(morphed.column(DIRECT).sum(), 0.5 * weather.column(DIRECT).sum(), rtol=0.01)
