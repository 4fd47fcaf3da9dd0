"""After the bundle: a hidden building measures, the bundle is fitted, a plan is searched, guarded and sent; EnergyPlus judges.

The building's side reads the setpoints with `proof.site`, which was written from points.toml alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from building.description import Building
from building.plan import DEADBAND_K, Plan
from building.scenario import Scenario
from calibration.calibrate import calibrate
from calibration.present import present
from calibration.report import Calibration
from calibration.search import Budget
from models.runtime.bundle import Bundle
from models.runtime.session import OnnxPredictor
from optim.choice import choose
from optim.front import Front
from optim.search import search
from proof.kpis import Kpis, is_air_no_worse, is_comfort_no_worse, kpis
from proof.plants import WEEK_H, Plant, draw_plant, measure
from proof.site import Site
from service.clock import TurnedClock
from service.config import Config, GuardSection, PublishSection
from service.operations import decide, valid_until
from service.points import load_points
from service.publish import Publisher
from service.store import Reading, SqlStore

pytestmark = pytest.mark.engine

SEED = 3
A_SMALL_CALIBRATION = Budget(max_evaluations=1200, max_restarts=0)
CONFIG = Config(guard=GuardSection(max_plan_age_h=WEEK_H + 1), publish=PublishSection(step_min=60, valid_for_min=90))


@dataclass(frozen=True)
class Planned:
    """A hidden building up to its plan."""

    plant: Plant
    truth: pd.DataFrame
    calibration: Calibration
    front: Front
    plan: Plan


@dataclass(frozen=True)
class Command:
    """One setpoint as the broker would carry it."""

    hour: pd.Timestamp
    topic: str
    payload: bytes
    expires_in_s: float | None


class Recorder:
    """A line that is always up and keeps what it is given."""

    def __init__(self, clock: TurnedClock) -> None:
        self.clock = clock
        self.heard: list[Command] = []

    def publish(
        self, topic: str, payload: bytes | str, is_retained: bool = False, expires_in_s: float | None = None, qos: int = 1
    ) -> int:
        assert not is_retained, "a BMS that restarts must not find a stale order"
        data = payload if isinstance(payload, bytes) else payload.encode()
        self.heard.append(Command(self.clock.now(), topic, data, expires_in_s))
        return len(self.heard)


@pytest.fixture(scope="module")
def planned(office: Building, shipped_bundle: Bundle) -> Planned:
    predictor = OnnxPredictor(shipped_bundle)
    plant = draw_plant(office, number=0, seed=SEED)
    truth = plant.live()
    measured = measure(plant, truth)
    history = office.with_sun(measured[measured.index < plant.planned_from])
    time_zone = office.site.time_zone
    calibration = calibrate(
        predictor, history, office.parameter_space, seed=SEED, time_zone=time_zone, budget=A_SMALL_CALIBRATION
    )
    week = pd.DatetimeIndex(truth.index[truth.index >= plant.planned_from])
    past, correct = present(predictor, calibration, history, week, time_zone)
    future = Scenario.from_frame(predictor.inputs, truth.loc[week], calibration.parameters)
    front = search(predictor, office, past, future, seed=SEED, n_plans=40, generations=15, correct=correct)
    return Planned(plant, truth, calibration, front, choose(front, issued=plant.planned_from))


@pytest.fixture(scope="module")
def commands(planned: Planned, office: Building, tmp_path_factory: pytest.TempPathFactory) -> list[Command]:
    """The week as the service sends it: every hour a reading comes in, the guard looks, the publisher speaks."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    start = planned.plant.planned_from
    store = SqlStore(f"sqlite:///{folder / 'setwise.db'}")
    clock = TurnedClock(start)
    line = Recorder(clock)
    publisher = Publisher(load_points(office), store, line, clock, CONFIG.publish)
    store.add_calibration(json.loads(json.dumps(planned.calibration.to_dict())), start, planned.calibration.is_accepted)
    store.add_plan(Plan.from_dict(json.loads(json.dumps(planned.plan.to_dict()))), start)
    for hour in pd.DatetimeIndex(planned.plan.hourly().index):
        clock.turn(hour)
        now = planned.truth.loc[hour]
        store.add_readings(
            [Reading(n, hour, float(now[n]), hour) for n in ("occupancy_share", "core_mid_air_temperature")], [], hour
        )
        guarded = decide(store, office, CONFIG, hour)
        publisher.set(guarded.settings, valid_until(hour, CONFIG.publish), guarded.plan_id, guarded.reasons())
    store.close()
    return line.heard


@pytest.fixture(scope="module")
def obeyed(commands: list[Command], office: Building) -> pd.DataFrame:
    """What a BMS makes of the week's commands, hour by hour."""
    site = Site(office)
    rows: dict[pd.Timestamp, dict[str, float]] = {}
    for command in commands:
        setting, value, _ = site.obey(command.topic, command.payload)
        rows.setdefault(command.hour, {})[setting] = value
    return pd.DataFrame(rows).T[list(office.settings.names)]


@pytest.fixture(scope="module")
def lived(planned: Planned, obeyed: pd.DataFrame) -> tuple[Kpis, Kpis]:
    """The week in EnergyPlus: under the baseline, and under what arrived over MQTT."""
    plant, front = planned.plant, planned.front
    without = planned.truth if front.baseline == "own" else plant.live(front.references[front.baseline].plan.frame)
    start = plant.planned_from
    return kpis(plant.building, without, start), kpis(plant.building, plant.live(obeyed), start)


def test_a_hidden_building_is_fitted_well_enough_to_be_trusted(planned: Planned) -> None:
    assert planned.calibration.is_accepted, planned.calibration.refusals
    electricity = next(f for f in planned.calibration.energy if f.name == "facility_electricity")
    assert electricity.cv_rmse < 0.10 and abs(electricity.nmbe) < 0.05
    assert planned.plant.dead_sensor in planned.calibration.dropped


def test_the_plan_of_the_bundle_promises_a_saving_without_slack(planned: Planned) -> None:
    assert planned.plan.origin == "optimised"
    assert len(planned.plan.hourly()) == WEEK_H
    assert planned.plan.meta["saving"][planned.front.baseline] > 0.05
    assert planned.plan.meta["slack"] == {}


def test_every_setting_is_commanded_every_hour_with_an_end(commands: list[Command], office: Building) -> None:
    topics = {c["topic"] for c in Site(office).commands.values()}
    assert len(commands) == WEEK_H * len(topics)
    for command in commands:
        told = json.loads(command.payload)
        assert command.topic in topics
        assert pd.Timestamp(told["valid_until"]) == command.hour + pd.Timedelta(minutes=90)
        assert command.expires_in_s == 90 * 60
        assert told["plan"] != "own", "the guard had no reason to leave the plan"
        assert not str(told["value"]).startswith("-0"), "minus zero is no setpoint"


def test_setpoints_that_arrive_are_within_bounds_and_do_not_cross(obeyed: pd.DataFrame, office: Building) -> None:
    assert obeyed.shape == (WEEK_H, len(office.settings))
    for v in office.settings:
        assert obeyed[v.name].between(v.low - 1e-6, v.high + 1e-6).all()
    assert (obeyed["cooling_setpoint"] - obeyed["heating_setpoint"]).min() >= DEADBAND_K - 1e-6
    for name, ramp in office.ramps().items():
        assert obeyed[name].diff().abs().max() <= ramp + 1e-6


def test_what_arrives_is_the_plan_but_for_what_the_guard_says(planned: Planned, obeyed: pd.DataFrame) -> None:
    gap = (obeyed - planned.plan.hourly()[obeyed.columns]).abs()
    assert (gap["heating_setpoint"] < 1e-3).mean() > 0.95
    assert (gap["supply_air_temperature"] < 1e-3).mean() > 0.95


def test_the_simulator_confirms_the_saving_with_comfort_and_air_no_worse(planned: Planned, lived: tuple[Kpis, Kpis]) -> None:
    own, chosen = lived
    saving = 1 - chosen.hvac_kwh / own.hvac_kwh
    assert saving > 0.05
    assert abs(planned.plan.meta["saving"][planned.front.baseline] - saving) < 0.06
    assert is_comfort_no_worse(chosen, own) and is_air_no_worse(chosen, own)
