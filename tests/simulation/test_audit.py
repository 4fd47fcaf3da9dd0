"""The audit on two knobs and a short season: it says what acts, and names what does not."""

from __future__ import annotations

import pytest

from building.description import Building
from building.errors import DeadKnobError, UnknownNameError
from simulation import audit as auditing
from simulation import knobs
from simulation.audit import audit

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def short_seasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days after a day of spin-up: enough to see a knob act."""
    real = auditing.base_run
    monkeypatch.setattr(auditing, "SPIN_UP_H", 24)
    monkeypatch.setattr(auditing, "base_run", lambda building, day: real(building, day, hours=48))


def test_a_dead_knob_is_named_and_a_living_one_is_not(office: Building, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(knobs.PARAMETERS, "window_shgc", lambda epjson, value, building: None)
    with pytest.raises(DeadKnobError, match="window_shgc") as refused:
        audit(office, n_workers=1, knobs=["window_shgc", "occupant_density"])
    assert refused.value.n_dead == 1 and "occupant_density" not in refused.value.dead


def test_an_audit_says_what_each_knob_did(office: Building) -> None:
    seen: list[tuple[int, int]] = []
    found = audit(office, 1, lambda done, total: seen.append((done, total)), knobs=["outdoor_air_flow", "burner_efficiency"])
    assert seen == [(i, 7) for i in range(1, 8)]  # two bases, one knob low and high in two seasons, one efficiency
    assert found.dead() == []
    effects = {(e.season, e.end): e for e in found.effects}
    assert effects["cold", "high"].heat > 0.1 > effects["cold", "low"].heat
    assert effects["warm", "high"].co2_peak_ppm < 0
    assert list(found.efficiency_errors) == ["gas_from_burner_efficiency"]
    assert abs(found.efficiency_errors["gas_from_burner_efficiency"]) < 0.005
    assert found.facts()["knobs"] == 1 and found.facts()["dead"] == 0
    ((_, columns, rows),) = found.tables()
    assert [row[:2] for row in rows] == [("outdoor_air_flow", "cold"), ("outdoor_air_flow", "warm")]
    assert all(len(row) == len(columns) for row in rows)


def test_a_knob_nobody_has_is_refused_with_a_hint(office: Building) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'infiltration'"):
        audit(office, knobs=["infiltratoin"])
