import numpy as np
import pandas as pd
import pytest

from building.description import load_building
from building.sun import BEAM_COLUMNS, beam_irradiance, sun_position
from building.timeline import steps

KNOWN = [
    # instant, latitude, longitude, altitude, azimuth [deg]
    (
        "2003-10-17T19:30:30Z",
        39.742476,
        -105.1786,
        90 - 50.11162,
        194.34024,
    ),  # Reda & Andreas (2004), NREL/TP-560-34302, Table A5.1
    ("2026-06-21T12:02Z", 23.44, 0.0, 90.0, None),  # solstice noon on the tropic
    ("2026-12-21T11:58Z", 41.98, 0.0, 90 - 41.98 - 23.44, 180.0),
    ("2026-06-21T12:02Z", 41.98, 0.0, 90 - 41.98 + 23.44, 180.0),
    ("2026-06-21T12:02Z", -33.9, 0.0, 90 - 33.9 - 23.44, 0.0),  # from the south it stands north
    ("2026-06-21T00:02Z", 78.0, 0.0, 78.0 + 23.44 - 90, 0.0),  # midnight sun
]


@pytest.mark.parametrize(("instant", "latitude", "longitude", "altitude", "azimuth"), KNOWN)
def test_sun_stands_where_it_is_known_to(instant, latitude, longitude, altitude, azimuth):
    h, a = (np.rad2deg(x)[0] for x in sun_position(pd.DatetimeIndex([instant]), latitude, longitude))
    assert h == pytest.approx(altitude, abs=0.6)
    if azimuth is not None:
        assert (a - azimuth + 180) % 360 - 180 == pytest.approx(0, abs=1.0)


def test_day_is_twelve_hours_at_the_equinox_everywhere():
    minutes = steps(pd.Timestamp("2026-03-20T00:00Z"), 1440, 1)
    for latitude in (-50, 0, 35, 60):
        altitude, _ = sun_position(minutes, latitude, 10.0)
        assert (altitude > 0).mean() * 24 == pytest.approx(12, abs=0.15)


def day(date, dni=800.0, latitude=41.98):
    index = steps(pd.Timestamp(f"{date}T00:00Z"), 24)
    return beam_irradiance(index, np.full(24, dni), latitude, 0.0)


def test_facades_get_their_sun_in_turn():
    beams = day("2026-06-21")
    assert tuple(beams.columns) == BEAM_COLUMNS
    # The east-west component of the beam is cos(declination) sin(hour angle): greatest six hours from noon.
    assert beams["east_beam_irradiance"].idxmax().hour in (5, 6)
    assert beams["west_beam_irradiance"].idxmax().hour in (17, 18)
    assert beams["south_beam_irradiance"].idxmax().hour in (11, 12)
    assert beams["roof_beam_irradiance"].idxmax().hour in (11, 12)
    assert (beams["east_beam_irradiance"].iloc[13:] == 0).all()
    assert (beams["north_beam_irradiance"].iloc[9:15] == 0).all()
    assert beams["north_beam_irradiance"].iloc[5] > 50


def test_low_winter_sun_lies_more_on_the_south_than_on_the_roof():
    beams = day("2026-12-21")
    noon = beams.iloc[12]
    altitude = np.deg2rad(90 - 41.98 - 23.44)
    assert noon["roof_beam_irradiance"] == pytest.approx(800 * np.sin(altitude), rel=0.05)
    assert noon["south_beam_irradiance"] == pytest.approx(800 * np.cos(altitude), rel=0.05)
    assert (beams["north_beam_irradiance"] == 0).all()


def test_beams_on_the_three_axes_never_exceed_the_beam():
    for date in ("2026-03-20", "2026-06-21", "2026-12-21"):
        beams = day(date)
        assert ((beams >= 0) & (beams <= 800)).all(axis=None)
        east_west = beams["east_beam_irradiance"] + beams["west_beam_irradiance"]
        north_south = beams["north_beam_irradiance"] + beams["south_beam_irradiance"]
        whole = np.sqrt(east_west**2 + north_south**2 + beams["roof_beam_irradiance"] ** 2)
        assert (whole <= 800 * 1.08).all()  # hourly means of a moving sun: a little over at most


def test_no_beam_no_sun_on_any_facade():
    assert (day("2026-06-21", dni=0.0) == 0).all(axis=None)


def test_building_adds_its_beams_to_a_frame_and_replaces_old_ones():
    building = load_building("medium_office")
    index = steps(pd.Timestamp("2026-06-21T00:00Z"), 24)
    frame = pd.DataFrame({"direct_normal_irradiance": 500.0, "north_beam_irradiance": -1.0, "wind_speed": 2.0}, index=index)
    out = building.with_sun(frame)
    assert set(out.columns) == {"direct_normal_irradiance", "wind_speed", *BEAM_COLUMNS}
    assert (out["north_beam_irradiance"] >= 0).all()
    assert out["roof_beam_irradiance"].idxmax().tz_convert("America/Chicago").hour in (12, 13)  # solar noon by the summer clock
