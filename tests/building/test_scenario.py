import numpy as np
import pandas as pd
import pytest

from building.errors import GapError, IrregularTimeError, MissingColumnError, NotFiniteError, ShapeError, UnknownNameError
from building.scenario import Scenario
from building.timeline import steps
from building.units import FACTOR, SHARE, TEMPERATURE
from building.variables import Role, Signature, Variable

INPUTS = Signature(
    Variable("outdoor_air_temperature", TEMPERATURE, Role.WEATHER, -30, 50),
    Variable("infiltration", FACTOR, Role.PARAMETER, 0.2, 3),
    Variable("system_on", SHARE, Role.SETTING, 0, 1),
)
START = pd.Timestamp("2026-01-05T00:00Z")


def frame(n=6, start=START):
    return pd.DataFrame({"system_on": 1.0, "outdoor_air_temperature": np.arange(n, dtype=float)}, index=steps(start, n))


def scenario(n=6, start=START, infiltration=1.5):
    return Scenario.from_frame(INPUTS, frame(n, start), {"infiltration": infiltration})


def test_frame_and_parameters_become_an_array_in_signature_order_and_back():
    s = scenario()
    assert s.values.tolist() == [[float(t), 1.5, 1.0] for t in range(6)]
    assert list(s.frame().columns) == list(INPUTS.names)
    assert s.parameters() == {"infiltration": 1.5}
    assert np.array_equal(Scenario.from_frame(INPUTS, s.frame()).values, s.values)


def test_parameter_wins_over_a_column_of_its_name():
    f = frame().assign(infiltration=9.0)
    assert Scenario.from_frame(INPUTS, f, {"infiltration": 0.7}).parameters() == {"infiltration": 0.7}


def test_forgotten_parameter_is_named():
    with pytest.raises(MissingColumnError, match="infiltration"):
        Scenario.from_frame(INPUTS, frame())


def test_nan_parameter_is_named():
    with pytest.raises(NotFiniteError, match="'infiltration'"):
        scenario(infiltration=float("nan"))


def test_gap_longer_than_allowed_is_named():
    f = frame()
    f.iloc[2:4, 1] = np.nan
    assert Scenario.from_frame(INPUTS, f, {"infiltration": 1.0}, max_gap_h=2).values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(GapError):
        Scenario.from_frame(INPUTS, f, {"infiltration": 1.0}, max_gap_h=1)


def test_past_and_future_join_to_the_whole():
    whole = scenario(6)
    past, future = (
        whole.between(START, START + pd.Timedelta(hours=2)),
        whole.between(START + pd.Timedelta(hours=2), START + pd.Timedelta(days=1)),
    )
    joined = past.then(future)
    assert (len(past), len(future)) == (2, 4)
    assert joined.index.equals(whole.index)
    assert np.array_equal(joined.values, whole.values)


@pytest.mark.parametrize("hours", [5, 7])
def test_past_that_overlaps_or_leaves_a_hole_is_refused(hours):
    with pytest.raises(IrregularTimeError, match="the past ends at"):
        scenario(6).then(scenario(3, START + pd.Timedelta(hours=hours)))


def test_scenarios_of_other_inputs_do_not_join():
    other = Scenario(INPUTS.only(["system_on"]), steps(START, 1), np.ones((1, 1)))
    with pytest.raises(ShapeError, match="the same 3 inputs"):
        scenario().then(other)


def test_batch_changes_only_what_it_is_told():
    s = scenario(4)
    series = np.array([[0.0, 1, 0, 1], [1.0, 0, 1, 0]])
    x_btc = s.batch({"infiltration": np.array([0.5, 2.0]), "system_on": series})
    assert x_btc.shape == (2, 4, 3)
    assert x_btc[:, 0, 1].tolist() == [0.5, 2.0]
    assert np.array_equal(x_btc[..., 2], series)
    assert np.array_equal(x_btc[..., 0], np.broadcast_to(np.arange(4.0), (2, 4)))
    assert s.values[0, 1] == 1.5
    assert np.array_equal(s.batch({}, n=3), np.repeat(s.values[None], 3, axis=0))


@pytest.mark.parametrize(
    "changes",
    [
        {"infiltration": np.ones(2), "system_on": np.ones((3, 4))},
        {"system_on": np.ones((2, 5))},
        {"system_on": np.ones((2, 4, 1))},
        {"system_on": np.float64(1.0)},
        {},
    ],
)
def test_batch_of_disagreeing_sizes_is_refused(changes):
    with pytest.raises(ShapeError):
        scenario(4).batch(changes)


def test_batch_of_an_unknown_input_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'system_on'"):
        scenario(4).batch({"sistem_on": np.ones(2)})
