import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.checks import brought_inside, check_bounds, check_frame, check_values, longest_gap
from building.errors import (
    GapError,
    IrregularTimeError,
    MissingColumnError,
    NotFiniteError,
    OutsideTrainingBoundsError,
    ShapeError,
)
from building.timeline import steps
from building.units import SHARE, TEMPERATURE
from building.variables import Role, Signature, Variable

SIGNATURE = Signature(
    Variable("outdoor_air_temperature", TEMPERATURE, Role.WEATHER, -30, 50),
    Variable("occupancy_share", SHARE, Role.OCCUPANCY, 0, 1),
)
START = pd.Timestamp("2026-01-05T00:00Z")


def frame(n=10):
    return pd.DataFrame(
        {"occupancy_share": 0.5, "stray": 1.0, "outdoor_air_temperature": np.arange(n, dtype=float)}, index=steps(START, n)
    )


def with_nan(rows, column="outdoor_air_temperature"):
    f = frame()
    f.loc[f.index[rows], column] = np.nan
    return f


@pytest.mark.parametrize(
    "mend",
    [
        lambda f: f,
        lambda f: f.assign(occupancy_share=1),
        lambda f: f.assign(stray="text"),
        lambda f: f.assign(occupancy_share="0.25"),
        lambda f: f.astype("float32"),
        lambda f: f.mask(f == 3.0),
        lambda f: f.astype({"occupancy_share": "Float64"}),
    ],
    ids=["clean", "whole numbers", "text beside", "numbers as text", "float32", "a gap", "nullable"],
)
def test_values_are_those_of_the_checked_frame(mend):
    f = mend(frame())
    values = check_values(f, SIGNATURE, max_gap_h=2)
    assert values.dtype == float
    assert np.array_equal(values, check_frame(f, SIGNATURE, max_gap_h=2).to_numpy())
    values[:] = 0
    assert f["outdoor_air_temperature"].iloc[5] == 5, "the caller's frame is left alone"


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda f: f.drop(columns="occupancy_share"), MissingColumnError),
        (lambda f: f.drop(index=f.index[4]), IrregularTimeError),
        (lambda f: f.tz_convert("Europe/Paris"), IrregularTimeError),
        (lambda f: f.mask(f == 3.0), NotFiniteError),
        (lambda f: f.assign(occupancy_share=np.inf), NotFiniteError),
        (lambda f: pd.concat([f, f["occupancy_share"]], axis=1), ShapeError),
    ],
    ids=["no column", "an hour missing", "another time zone", "a gap", "infinity", "two of one name"],
)
def test_values_are_refused_as_the_frame_is(harm, error):
    f = harm(frame())
    with pytest.raises(error) as by_frame:
        check_frame(f, SIGNATURE)
    with pytest.raises(error) as by_values:
        check_values(f, SIGNATURE)
    assert str(by_frame.value) == str(by_values.value)


def test_good_frame_comes_back_in_signature_order_without_strays():
    assert list(check_frame(frame(), SIGNATURE).columns) == list(SIGNATURE.names)


def test_missing_columns_are_listed():
    with pytest.raises(MissingColumnError, match="the forecast lacks 1 of the 2 columns asked for: occupancy_share"):
        check_frame(frame().drop(columns="occupancy_share"), SIGNATURE, what="the forecast")


def test_missing_hour_is_named():
    with pytest.raises(IrregularTimeError, match="05:00:00"):
        check_frame(frame().drop(index=frame().index[4]), SIGNATURE)


def test_nan_is_named_with_column_count_and_first_hour():
    with pytest.raises(NotFiniteError) as caught:
        check_frame(with_nan([3, 4]), SIGNATURE)
    assert (caught.value.column, caught.value.n_bad) == ("outdoor_air_temperature", 2)
    assert caught.value.where == START + pd.Timedelta(hours=3)


@pytest.mark.parametrize("gap_h", [0, 6])
@pytest.mark.parametrize("value", ["unknown", "unavailable", np.inf, -np.inf])
def test_text_or_infinity_is_never_taken_for_a_gap(value, gap_h):
    f = frame().astype(object)
    f.loc[f.index[7], "outdoor_air_temperature"] = value
    with pytest.raises(NotFiniteError) as caught:
        check_frame(f, SIGNATURE, max_gap_h=gap_h)
    assert (caught.value.column, caught.value.where) == ("outdoor_air_temperature", START + pd.Timedelta(hours=7))


def test_numbers_as_text_are_numbers():
    f = frame().astype(str)
    assert check_frame(f, SIGNATURE)["outdoor_air_temperature"].tolist() == list(range(10))


def test_short_gap_is_bridged_linearly_and_at_the_ends_held():
    out = check_frame(with_nan([0, 4, 5, 9]), SIGNATURE, max_gap_h=2)
    assert out["outdoor_air_temperature"].tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 8, 8]


def test_long_gap_is_refused_with_its_place_and_length():
    with pytest.raises(
        GapError, match=r"gap of 3 h in 'outdoor_air_temperature' from 2026-01-05 04:00:00\+00:00 on; at most 2 h"
    ):
        check_frame(with_nan([1, 4, 5, 6]), SIGNATURE, max_gap_h=2)


def test_column_without_any_number_is_a_gap_however_long_gaps_may_be():
    with pytest.raises(GapError, match="gap of 10 h in 'occupancy_share'"):
        check_frame(with_nan(range(10), "occupancy_share"), SIGNATURE, max_gap_h=24)


def test_repeated_column_is_refused():
    f = frame()
    with pytest.raises(ShapeError, match="'occupancy_share' in the frame"):
        check_frame(pd.concat([f, f[["occupancy_share"]]], axis=1), SIGNATURE)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_longest_gap_equals_a_plain_count(bad):
    series = pd.Series(np.where(bad, np.nan, 1.0), index=steps(START, len(bad)))
    longest = max((len(run) for run in "".join("x" if b else " " for b in bad).split()), default=0)
    start, length = longest_gap(series)
    assert length == longest
    assert series[start : start + pd.Timedelta(hours=length - 1)].isna().all() or length == 0


def batch(**changes):
    x = np.zeros((2, 3, 2))
    x[..., 1] = 0.5
    for (b, t, c), value in changes.get("at", {}).items():
        x[b, t, c] = value
    return x


def test_values_inside_bounds_or_within_the_slack_pass():
    check_bounds(batch(at={(1, 2, 0): 51.0}), SIGNATURE)
    check_bounds(batch(at={(1, 2, 0): -31.5}), SIGNATURE)
    check_bounds(np.empty((0, 3, 2)), SIGNATURE)


@pytest.mark.parametrize(("value", "channel", "name"), [(60.0, 0, "outdoor_air_temperature"), (-0.2, 1, "occupancy_share")])
def test_value_outside_the_training_bounds_is_named(value, channel, name):
    with pytest.raises(OutsideTrainingBoundsError) as caught:
        check_bounds(batch(at={(1, 2, channel): value}), SIGNATURE)
    assert (caught.value.variable, caught.value.value) == (name, value)


def test_worst_channel_is_the_one_named():
    with pytest.raises(OutsideTrainingBoundsError, match="occupancy_share = 2"):
        check_bounds(batch(at={(0, 0, 0): 55.0, (0, 0, 1): 2.0}), SIGNATURE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinity_does_not_slip_through_the_bounds(value):
    with pytest.raises(NotFiniteError, match="'occupancy_share', the first at row 5"):
        check_bounds(batch(at={(1, 2, 1): value}), SIGNATURE)


def test_another_number_of_channels_is_refused():
    with pytest.raises(ShapeError):
        check_bounds(np.zeros((2, 3, 4)), SIGNATURE)


def frame_of(**columns: list[float]) -> pd.DataFrame:
    index = pd.date_range("2026-01-01", periods=len(next(iter(columns.values()))), freq="h", tz="UTC")
    return pd.DataFrame(columns, index=index)


def test_what_was_measured_outside_the_bounds_is_taken_as_the_bound_and_said() -> None:
    names = SIGNATURE.names
    frame = frame_of(**{names[0]: [20.0, 70.0, 55.0, np.nan], names[1]: [0.0, 1.0, 0.5, 0.2], "other": [1e9, 0, 0, 0]})
    inside, said = brought_inside(frame, SIGNATURE)
    assert inside[names[0]].tolist()[:3] == [20.0, 50.0, 50.0] and np.isnan(inside[names[0]].iloc[3])
    assert inside["other"].iloc[0] == 1e9
    assert set(said) == {names[0]}
    assert said[names[0]].startswith("in 2 of 4 h outside -30 .. 50 degC") and "worst 70" in said[names[0]]
    assert frame[names[0]].iloc[1] == 70.0  # what was given is not touched
    check_bounds(inside[list(names)].iloc[:3].to_numpy()[None], SIGNATURE)


def test_a_little_outside_is_noise_and_nothing_is_said_of_it() -> None:
    inside, said = brought_inside(frame_of(**{SIGNATURE.names[1]: [1.01, -0.01]}), SIGNATURE)
    assert inside[SIGNATURE.names[1]].tolist() == [1.0, 0.0] and said == {}


def test_an_infinite_reading_is_a_gap_and_not_the_bound_and_text_is_refused() -> None:
    inside, said = brought_inside(frame_of(**{SIGNATURE.names[1]: [np.inf, 0.5]}), SIGNATURE)
    assert np.isnan(inside[SIGNATURE.names[1]].iloc[0]) and said == {}
    with pytest.raises(NotFiniteError):
        brought_inside(frame_of(**{SIGNATURE.names[1]: [0.5, 0.5]}).astype(object).replace(0.5, "unknown"), SIGNATURE)
