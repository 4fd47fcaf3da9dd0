import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.errors import UnknownNameError, UnknownUnitError
from building.units import QUANTITIES, quantity

EDGES = [(q.name, unit) for q in QUANTITIES.values() for unit in (q.unit, *q.edges)]

KNOWN = [
    ("temperature", "degF", 32.0, 0.0),
    ("temperature", "degF", 212.0, 100.0),
    ("temperature", "K", 273.15, 0.0),
    ("temperature_difference", "degF", 9.0, 5.0),
    ("power", "kW", 1.5, 1500.0),
    ("power", "Btu/h", 3412.14, 1000.0),
    ("energy", "J", 3.6e6, 1.0),
    ("energy", "MJ", 3.6, 1.0),
    ("energy", "GJ", 3.6e-3, 1.0),
    ("power_density", "W/ft2", 1.0, 10.7639),
    ("share", "%", 50.0, 0.5),
    ("humidity_ratio", "g/kg", 8.0, 0.008),
    ("wind_speed", "km/h", 36.0, 10.0),
    ("wind_speed", "kn", 1.0, 0.514444),
    ("pressure", "hPa", 1013.25, 101325.0),
    ("flow", "l/s", 1.0, 3.6),
    ("flow", "cfm", 1.0, 1.69901),
    ("flow_per_area", "l/s.m2", 0.35, 1.26),
    ("flow_per_area", "cfm/ft2", 1.0, 18.288),
    ("transmittance", "Btu/h.ft2.F", 1.0, 5.678263),
    ("area", "ft2", 100.0, 9.290304),
    ("co2", "%", 0.042, 420.0),
]


@pytest.mark.parametrize(("name", "unit", "value", "inside"), KNOWN)
def test_known_conversion(name, unit, value, inside):
    assert quantity(name).from_unit(value, unit) == pytest.approx(inside, rel=2e-5, abs=1e-9)


@given(st.sampled_from(EDGES), st.floats(-1e5, 1e5))
def test_every_unit_round_trips(edge, value):
    q = quantity(edge[0])
    back = q.to_unit(q.from_unit(value, edge[1]), edge[1])
    assert math.isclose(back, value, rel_tol=1e-9, abs_tol=1e-6)


def test_unknown_unit_lists_the_known_ones():
    with pytest.raises(UnknownUnitError, match="'furlong' is not a unit of power. Known: W, kW, MW"):
        quantity("power").from_unit(1.0, "furlong")


def test_unknown_quantity_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'temperature'"):
        quantity("temprature")
