"""How a demo ends, for buildings that are accepted, refused or served badly; no EnergyPlus runs here."""

from __future__ import annotations

from typing import Any, cast

import pytest

import setwise
from proof.demo import Demo
from proof.kpis import Kpis

OWN = Kpis(hvac_kwh=1000.0, tdis_tot=1.0, idis_tot=10.0, co2_ppm=800.0, humidity_low=0.3, humidity_high=0.6)
REFUSED = {"is_accepted": False, "refusals": ["NMBE of gas_coil_heat is 12.0 %, at most 10 % is allowed"], "energy": []}
ACCEPTED = {"is_accepted": True, "refusals": [], "energy": []}


def ended(verdict: dict[str, Any], n_planned: int, kwh: float = 1000.0, tdis: float = 1.0, idis: float = 10.0) -> Demo:
    chosen = Kpis(kwh, tdis, idis, 800.0, 0.3, 0.6)
    nobody = cast(Any, None)
    return Demo(nobody, verdict, "own", {}, OWN, chosen, 40_000, 845, n_planned, "amqtt", "http://127.0.0.1:1/", 100.0)


def test_a_refused_building_that_keeps_its_own_schedule_is_a_good_end_and_says_why(capsys) -> None:
    result = ended(REFUSED, n_planned=0)
    assert result.is_good and result.facts()["accepted"] == 0
    said = result.said()
    assert "NMBE of gas_coil_heat is 12.0 %" in said and "kept its own schedule" in said and "fault" not in said
    setwise.say(setwise.as_answer(result), as_json=False)
    out = capsys.readouterr().out
    assert out.startswith("Calibration refused: ") and "REFUSED" in out
    assert setwise.as_answer(result).is_good


def test_a_refused_building_that_is_steered_all_the_same_is_a_fault() -> None:
    result = ended(REFUSED, n_planned=5, kwh=900.0)
    assert not result.is_good and "that is a fault" in result.said()


@pytest.mark.parametrize(
    ("lived", "is_good", "said"),
    [
        ({"kwh": 700.0}, True, "The plan saved 30.0% of HVAC energy in EnergyPlus, comfort and air no worse."),
        ({"kwh": 1100.0}, False, "used more: 10.0%"),
        ({"kwh": 700.0, "tdis": 3.0}, False, "comfort worse"),
        ({"kwh": 700.0, "tdis": 3.0, "idis": 90.0}, False, "comfort and air worse"),
    ],
)
def test_an_accepted_building_is_judged_by_energy_comfort_and_air(lived, is_good, said) -> None:
    result = ended(ACCEPTED, 840, **lived)
    assert result.is_good == is_good and said in result.said()
