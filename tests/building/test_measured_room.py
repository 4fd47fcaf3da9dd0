"""ROBOD room 1, measured in Singapore: what a real export does to checks and indices. Skips without the shared data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from building.checks import check_frame, longest_gap
from building.errors import GapError
from building.indices.air import idis_tot, mean_occupied_co2
from building.indices.comfort import is_occupied, pmv_ppd_iso7730
from building.indices.moisture import humidity_ratio, relative_humidity, vapour_pressure
from building.units import CO2, TEMPERATURE
from building.variables import Role, Signature, Variable

ROOM = Signature(
    Variable("t_in_c", TEMPERATURE, Role.INDOOR, 10, 40),
    Variable("co2_in_ppm", CO2, Role.INDOOR, 300, 5000),
)


@pytest.fixture(scope="module")
def room(measured_buildings: Path) -> pd.DataFrame:
    raw = pd.read_csv(measured_buildings / "robod_rooms12" / "room1_5min.csv", index_col=0, parse_dates=True)
    return raw.resample("60min").mean()


def test_the_hole_of_68_days_between_the_measured_days_is_named(room: pd.DataFrame) -> None:
    with pytest.raises(GapError, match="gap of 1[56][0-9][0-9] h in 't_in_c' from 2021-10-0"):
        check_frame(room, ROOM, max_gap_h=6, what="room 1")


def test_a_working_day_has_no_gap_and_no_co2_excess(room: pd.DataFrame) -> None:
    day = room.loc["2021-09-06T16:00Z":"2021-09-07T15:00Z"]
    whole = check_frame(day, ROOM, max_gap_h=1)
    assert longest_gap(whole["co2_in_ppm"])[1] == 0
    occupied = is_occupied(day["occ_count"].to_numpy() / 40)
    assert 2 <= occupied.sum() <= 16
    co2 = whole["co2_in_ppm"].to_numpy()[:, None]
    assert mean_occupied_co2(co2, occupied) == pytest.approx(550, abs=5)
    outdoor = float(day["co2_out_ppm"].mean())
    assert idis_tot(co2, occupied, outdoor_co2=outdoor) == pytest.approx(0.0)  # the room stays under 800 ppm above outdoor


def test_a_cooled_tropical_room_is_humid_and_near_neutral(room: pd.DataFrame) -> None:
    day = room.loc["2021-09-07T01:00Z":"2021-09-07T09:00Z"]  # 09:00-18:00 local
    rh, t = day["rh_in_pct"].to_numpy() / 100, day["t_in_c"].to_numpy()
    np.testing.assert_allclose(relative_humidity(t, humidity_ratio(t, rh)), rh, rtol=1e-9)
    pmv, ppd = pmv_ppd_iso7730(t, t, 0.15, rh, met=1.2, clo=0.5)
    # ISO 7730 ends at a vapour pressure of 2700 Pa, and the tropics reach it: then there is no vote, not a wrong one.
    holds = vapour_pressure(humidity_ratio(t, rh)) <= 2700
    assert holds.sum() >= 6
    np.testing.assert_array_equal(np.isfinite(pmv), holds)
    assert 0.3 < float(pmv[holds].mean()) < 1.0
    assert (ppd[holds] >= 0.05).all()
