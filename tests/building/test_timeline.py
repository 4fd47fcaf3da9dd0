from datetime import date

import pandas as pd
import pytest

from building.errors import IrregularTimeError
from building.timeline import check_steps, day_type_of, steps


def test_steps_are_utc_whatever_zone_the_start_speaks():
    index = steps(pd.Timestamp("2026-01-05T00:00", tz="America/Chicago"), 3)
    assert [t.isoformat() for t in index] == [f"2026-01-05T0{h}:00:00+00:00" for h in (6, 7, 8)]


def test_start_without_time_zone_is_refused():
    with pytest.raises(IrregularTimeError, match="it has no time zone"):
        steps(pd.Timestamp("2026-01-05"), 3)


def test_regular_index_passes_over_the_change_of_time():
    index = steps(pd.Timestamp("2026-03-07", tz="America/Chicago"), 72)
    assert check_steps(index).equals(index)


@pytest.mark.parametrize(
    ("broken", "where", "reason"),
    [
        (lambda i: i.delete(5), 6, "the step there is 0 days 02:00:00"),
        (lambda i: i.insert(5, i[5]), 5, "the step there is 0 days 00:00:00"),
        (lambda i: i[:5].append(i[4:]), 4, "the step there is 0 days 00:00:00"),
        (lambda i: i.tz_localize(None), 0, "not in UTC"),
        (lambda i: pd.RangeIndex(len(i)), 0, "not in UTC"),
    ],
)
def test_irregular_time_is_named_by_place_and_reason(broken, where, reason):
    index = steps(pd.Timestamp("2026-01-05T00:00Z"), 10)
    bad = broken(index)
    with pytest.raises(IrregularTimeError, match=reason) as caught:
        check_steps(bad, 60, "the readings")
    expected = index[where] if reason.startswith("the step") else bad[0]
    assert caught.value.where == expected
    assert str(caught.value).startswith("the readings must have a UTC index")


def test_day_types_of_a_week_and_of_a_holiday():
    week = pd.date_range("2026-12-21", periods=7, freq="D", tz="Europe/Berlin")
    assert day_type_of(week).tolist() == [0, 0, 0, 0, 0, 1, 2]
    assert day_type_of(week, {date(2026, 12, 25), date(2026, 12, 26)}).tolist() == [0, 0, 0, 0, 2, 2, 2]
