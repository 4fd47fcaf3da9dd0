import pytest

from building.description import load_building
from building.errors import UnknownNameError
from building.units import POWER, TEMPERATURE
from building.variables import Role, Signature, Variable

INDOOR = Variable("hall_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60, "hall", "hall")
FANS = Variable("fan_electricity", POWER, Role.CONSUMPTION, 0, 1e5)


def test_signature_answers_positions_in_the_order_asked():
    signature = Signature(INDOOR, FANS)
    assert signature.positions(["fan_electricity", "hall_air_temperature"]) == [1, 0]
    assert signature["fan_electricity"] is FANS
    assert "fan_electricity" in signature
    assert "fans" not in signature
    assert signature.only(["fan_electricity"]).names == ("fan_electricity",)


def test_signature_json_round_trip_is_equal_for_a_whole_building():
    outputs = load_building("medium_office").outputs
    assert Signature.from_list(outputs.to_list()) == outputs


def test_unknown_variable_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'fan_electricity'"):
        Signature(INDOOR, FANS).position("fan_electrcity")


def test_name_declared_twice_is_refused():
    with pytest.raises(UnknownNameError, match="'fan_electricity' is not a unique name"):
        Signature(FANS, INDOOR, FANS)


def test_having_filters_by_role_and_quantity():
    outputs = load_building("medium_office").outputs
    zones = outputs.having(Role.INDOOR, quantity=TEMPERATURE)
    assert len(zones) == 15
    assert all(v.zone is not None for v in zones)
    assert len(outputs.having(Role.CONSUMPTION)) == 7
