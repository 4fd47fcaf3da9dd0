import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.errors import BadDescriptionError, OutsideBoundsError, UnknownNameError
from building.parameters import Parameter, ParameterSpace

LINEAR = Parameter("window_u_factor", 1.0, 5.7, default=3.24)
LOG = Parameter("infiltration", 0.2, 3.0, "log", default=1.0)
CHOICE = Parameter("panes", 1, 3, "choice", (1.0, 2.0, 3.0))
SPACE = ParameterSpace(LINEAR, LOG, CHOICE)

bounds = st.tuples(st.floats(1e-3, 1e3), st.floats(1.01, 1e3)).map(lambda t: (t[0], t[0] * t[1]))


@given(bounds, st.sampled_from(["linear", "log"]), st.floats(0, 1))
def test_unit_interval_round_trips_and_stays_in_bounds(pair, scale, u):
    p = Parameter("p", *pair, scale)
    value = p.from_unit(u)
    assert pair[0] <= value <= pair[1]
    assert p.to_unit(value) == pytest.approx(u, abs=1e-7)


@given(st.floats(0, 1))
def test_choice_gives_one_of_its_values_and_comes_back_to_it(u):
    value = CHOICE.from_unit(u)
    assert float(value) in CHOICE.choices
    assert CHOICE.from_unit(CHOICE.to_unit(value)) == value


def test_each_choice_gets_an_equal_share_of_the_unit_interval():
    values = CHOICE.from_unit(np.linspace(0, 1, 3000, endpoint=False))
    assert [int((values == c).sum()) for c in CHOICE.choices] == [1000, 1000, 1000]


def test_known_values_of_the_middle():
    assert LINEAR.from_unit(0.5) == pytest.approx(3.35)
    assert LOG.from_unit(0.5) == pytest.approx(np.sqrt(0.6))
    assert LOG.from_unit([-0.5, 1.5]).tolist() == [0.2, 3.0]


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=5))
def test_space_round_trips_whole_batches(points):
    space = ParameterSpace(LINEAR, LOG)
    assert np.allclose(space.to_unit(space.from_unit(points)), points, atol=1e-9)


def test_space_names_its_columns():
    named = SPACE.named(SPACE.from_unit(np.full((4, 3), 0.5)))
    assert list(named) == ["window_u_factor", "infiltration", "panes"]
    assert named["panes"].tolist() == [2.0] * 4


def test_defaults_are_the_best_guess_or_the_middle():
    assert SPACE.defaults() == {"window_u_factor": 3.24, "infiltration": 1.0, "panes": 2.0}


def test_narrowed_space_takes_defaults_and_choices_along():
    narrow = SPACE.narrowed({"infiltration": (0.2, 0.5), "panes": (2, 3)})
    assert narrow["infiltration"].high == 0.5
    assert narrow.defaults()["infiltration"] == 0.5
    assert set(narrow["panes"].from_unit(np.linspace(0, 1, 50))) == {2.0, 3.0}
    with pytest.raises(UnknownNameError, match="Did you mean 'infiltration'"):
        SPACE.narrowed({"infiltraton": (0, 1)})


def test_value_outside_bounds_is_named():
    SPACE.check({"infiltration": 3.0})
    with pytest.raises(OutsideBoundsError, match=r"infiltration = 3.1  lies outside 0.2 .. 3"):
        SPACE.check({"infiltration": 3.1})
    with pytest.raises(OutsideBoundsError):
        SPACE.check({"infiltration": float("nan")})
    with pytest.raises(UnknownNameError):
        SPACE.check({"leakage": 1.0})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("p", 2.0, 1.0), "must be less"),
        (("p", 0.0, 1.0, "log"), "needs low > 0"),
        (("p", 0.0, 1.0, "choice"), "needs its list"),
    ],
)
def test_bad_parameter_is_refused(arguments, reason):
    with pytest.raises(BadDescriptionError, match=reason):
        Parameter(*arguments)
