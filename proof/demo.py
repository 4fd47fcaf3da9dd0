"""`setwise demo`: the main job in minutes.

A hidden building is played over MQTT to a real service, which fits itself to it, plans its week and steers it; the simulator says
what that was worth. Real parts: a broker, `setwise serve` as its own process with its own clock topic, HTTP, the bundle that
ships, EnergyPlus as the building. Played: time, and the sensors (noise, gaps, a dead one). The forecast given to the service is
the weather and occupancy that will come.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from building.description import load_building
from building.scenario import Scenario
from building.sun import BEAM_COLUMNS
from building.variables import Role
from models.runtime.bundle import load_bundle
from optim.outlook import Outlook
from optim.references import own_plan, raised_plan
from proof.bms import Bms
from proof.broker import Broker, start_broker
from proof.gateway import VALID_FOR, Gateway, commissioned
from proof.kpis import Kpis, is_air_no_worse, is_comfort_no_worse, kpis
from proof.plants import WEEK_H, Plant, draw_plant, measure
from proof.player import Replay, replay

BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "medium_office"
AS_FAST_AS_HEARD = 1e9

OpenStage = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Demo:
    """What a played building and its week came to.

    Attributes:
        plant: who was played. verdict: of the calibration, as JSON data.
        baseline: ``own`` or ``own_raised``. promised: meta of the plan, as JSON data.
        own, chosen: KPIs of the simulated week under the baseline and under the setpoints that arrived over MQTT.
        n_messages, n_setpoints: that crossed the broker. n_planned: setpoints that came from a plan.
        broker: its kind. address: of page and API.
        seconds: wall time of the whole.
    """

    plant: Plant
    verdict: dict[str, Any]
    baseline: str
    promised: dict[str, Any]
    own: Kpis
    chosen: Kpis
    n_messages: int
    n_setpoints: int
    n_planned: int
    broker: str
    address: str
    seconds: float

    @property
    def saving(self) -> float:
        """Simulated share of HVAC energy saved."""
        return 1 - self.chosen.hvac_kwh / self.own.hvac_kwh

    @property
    def is_accepted(self) -> bool:
        """Whether Guideline 14 let the calibration pass."""
        return bool(self.verdict.get("is_accepted"))

    @property
    def is_good(self) -> bool:
        """Whether setwise did its job: saved energy with comfort and air no worse; or, refused, let no plan near the building."""
        if not self.is_accepted:
            return self.n_planned == 0
        return self.saving > 0 and is_comfort_no_worse(self.chosen, self.own) and is_air_no_worse(self.chosen, self.own)

    def said(self) -> str:
        """Return how it ended, in a sentence or two."""
        if not self.is_accepted:
            why = "; ".join(self.verdict.get("refusals", ()))
            kept = (
                "The building kept its own schedule: nothing saved, nothing risked."
                if self.n_planned == 0
                else f"And yet {self.n_planned} setpoints of a plan were sent: that is a fault."
            )
            advice = (
                "On a real gateway the next calibration has other weeks to look at. Another DEMO_SEED plays another building."
            )
            return f"Calibration refused: {why}. A bundle that does not fit this building must not steer it. {kept} {advice}"
        worse = [
            what
            for what, is_no_worse in (("comfort", is_comfort_no_worse), ("air", is_air_no_worse))
            if not is_no_worse(self.chosen, self.own)
        ]
        found = f"The plan {'saved' if self.saving > 0 else 'used more:'} {abs(self.saving):.1%} of HVAC energy in EnergyPlus"
        return f"{found}, {' and '.join(worse)} worse than its own schedule." if worse else f"{found}, comfort and air no worse."

    def facts(self) -> dict[str, Any]:
        """Return the last line's key=value pairs."""
        predicted = float(self.promised.get("saving", {}).get(self.baseline, 0.0))
        return {
            "accepted": int(self.is_accepted),
            "saving": self.saving,
            "predicted_saving": predicted,
            "promise_gap": predicted - self.saving,
            "comfort_no_worse": int(is_comfort_no_worse(self.chosen, self.own)),
            "air_no_worse": int(is_air_no_worse(self.chosen, self.own)),
            "messages": self.n_messages,
            "setpoints": self.n_setpoints,
            "broker": self.broker,
            "address": self.address,
            "seconds": self.seconds,
        }

    def tables(self) -> list[tuple[str, tuple[str, ...], Sequence[Sequence[object]]]]:
        """Return the calibration and the week, for people."""
        fitted = [
            (e["name"].replace("_", " "), f"{e['cv_rmse']:.1%}", f"{e['nmbe']:+.1%}", "passes" if e["passes"] else "FAILS")
            for e in self.verdict.get("energy", [])
            if e["is_judged"]
        ]
        promised = self.promised.get("predicted", {})
        before = self.promised.get("references", {}).get(self.baseline, {})
        week = [
            ("HVAC energy, kWh", *_told(before, promised, "energy", 0), *_lived(self, "hvac_kwh", 0)),
            ("discomfort, K.h per zone", *_told(before, promised, "discomfort", 2), *_lived(self, "tdis_tot", 2)),
            ("CO2 excess, ppm.h per zone", *_told(before, promised, "co2_excess", 1), *_lived(self, "idis_tot", 1)),
            ("CO2 while occupied, ppm", "", "", *_lived(self, "co2_ppm", 0)),
            ("relative humidity, %", "", "", _span(self.own), _span(self.chosen)),
        ]
        verdict = "accepted" if self.is_accepted else "REFUSED"
        schedule = "own schedule" if self.baseline == "own" else "own schedule raised to the minimum renewal"
        sent = "the plan" if self.is_accepted else "sent"
        return [
            (f"calibration {verdict}, held-out hours", ("", "CV(RMSE)", "NMBE", "Guideline 14"), fitted),
            (
                f"the coming week: {schedule} against {sent if self.is_accepted else 'the setpoints that were sent, its own'}",
                ("", "own, predicted", "plan, predicted", "own, simulated", f"{sent.split()[-1]}, simulated"),
                week,
            ),
        ]


def _told(before: dict[str, float], promised: dict[str, float], key: str, digits: int) -> tuple[str, str]:
    return (f"{before[key]:.{digits}f}" if key in before else "", f"{promised[key]:.{digits}f}" if key in promised else "")


def _lived(result: Demo, key: str, digits: int) -> tuple[str, str]:
    return (f"{getattr(result.own, key):.{digits}f}", f"{getattr(result.chosen, key):.{digits}f}")


def _span(kpi: Kpis) -> str:
    return f"{100 * kpi.humidity_low:.0f} .. {100 * kpi.humidity_high:.0f}"


def demo(
    seed: int = 0,
    exit_when_done: bool = True,
    bundle: Path = BUNDLE,
    open_stage: OpenStage = lambda label, total: lambda done: None,
    on_result: Callable[[Demo, str], None] = lambda result, token: None,
) -> Demo:
    """Play a hidden building of this seed from the first message to the judged week.

    Args:
        seed: which building.
        exit_when_done: False keeps page and API up after `on_result`, until Ctrl-C.
        bundle: the metamodel.
        open_stage: opens a progress for (label, total) and returns ``advance(done)``.
        on_result: told the result and the access token while page and API are up.

    Raises:
        ServiceFailedError, BrokerError, FailedRunError: with the last words of what failed.
    """
    began = time.monotonic()
    load_bundle(bundle)  # a bad bundle is said before anything starts
    plant = draw_plant(load_building("medium_office"), number=0, seed=seed)
    with (
        tempfile.TemporaryDirectory(prefix="setwise-demo-") as folder,
        start_broker() as broker,
        commissioned(Path(folder), plant, broker, bundle) as service,
    ):
        result = _play(plant, service, broker, open_stage, began)
        on_result(result, service.token)
        if not exit_when_done:
            _wait_for_interrupt()
    return result


def _wait_for_interrupt() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _play(plant: Plant, service: Gateway, broker: Broker, open_stage: OpenStage, began: float) -> Demo:
    advance = open_stage("a hidden building lives 4 weeks", 1)
    truth = plant.live()
    measured = measure(plant, truth)
    history = measured[measured.index < plant.planned_from]
    advance(1)
    advance = open_stage("its sensors speak over MQTT", len(history))
    with Bms(plant.building, broker, VALID_FOR) as bms:
        played = _replay(plant, broker, history, advance)
        service.wait_for_readings(plant.planned_from)
        service.post("/v1/forecasts", _forecast(plant, truth))
        advance = open_stage("calibrating", 1)
        calibrated = service.follow(service.post("/v1/calibrations")["job"])
        advance(1)
        verdict = service.get("/v1/calibration")["last"]["calibration"]
        advance = open_stage("searching next week's settings", 1)
        if calibrated == "done":  # an accepted calibration plans at once
            service.follow(service.newest_job("plan"))
        advance(1)
        is_planned = calibrated == "done"
        plan = service.get("/v1/plan") if is_planned else {"meta": {}, "settings": {}, "stamps": []}
        baseline = service.get("/v1/front")["baseline"] if is_planned else "own"
        advance = open_stage("next week, steered over MQTT", WEEK_H)
        lived = plant.live(_frame(plan)) if is_planned else truth
        said = measure(plant, lived)
        week = said[said.index >= plant.planned_from]
        # A minute before the end: there page and API still show the plan that steered the week.
        clock_until = pd.Timestamp(week.index[-1]) + pd.Timedelta(minutes=59)
        steered = _replay(plant, broker, week, advance, bms.wait_for, clock_until)
        arrived = bms.settings(pd.DatetimeIndex(week.index))
    advance = open_stage("next week, simulated both ways", 2)
    without = truth if baseline == "own" else plant.live(_raised(plant, truth))
    advance(1)
    with_plan = plant.live(arrived)
    advance(2)
    return Demo(
        plant=plant,
        verdict=verdict,
        baseline=baseline,
        promised=plan["meta"],
        own=kpis(plant.building, without, plant.planned_from),
        chosen=kpis(plant.building, with_plan, plant.planned_from),
        n_messages=played.messages + steered.messages,
        n_setpoints=bms.n_heard,
        n_planned=bms.n_planned,
        broker=broker.kind,
        address=service.address,
        seconds=time.monotonic() - began,
    )


def _replay(
    plant: Plant,
    broker: Broker,
    frame: pd.DataFrame,
    advance: Callable[[int], None],
    before_hour: Callable[[pd.Timestamp], None] | None = None,
    clock_until: pd.Timestamp | None = None,
) -> Replay:
    return replay(
        plant.building,
        frame,
        host=broker.host,
        port=broker.port,
        hours_per_second=AS_FAST_AS_HEARD,
        clock_until=clock_until,
        before_hour=before_hour,
        progress=lambda done, total: advance(done),
    )


def _forecast(plant: Plant, truth: pd.DataFrame) -> dict[str, Any]:
    """Return the weather and occupancy that will come, as POST /v1/forecasts takes them."""
    coming = truth[truth.index >= plant.planned_from]
    names = [v.name for v in plant.building.inputs.having(Role.WEATHER, Role.OCCUPANCY) if v.name not in BEAM_COLUMNS]
    return {
        "issued": plant.planned_from.isoformat(),
        "start": coming.index[0].isoformat(),
        "series": {n: [float(x) for x in coming[n]] for n in names},
    }


def _frame(plan: dict[str, Any]) -> pd.DataFrame:
    """Return the settings of /v1/plan as a frame."""
    index = pd.DatetimeIndex(pd.to_datetime(plan["stamps"], utc=True))
    return pd.DataFrame({name: block["values"] for name, block in plan["settings"].items()}, index=index)


def _raised(plant: Plant, truth: pd.DataFrame) -> pd.DataFrame:
    """Return the own schedule of the week raised to the minimum renewal, the baseline where it breaks that limit."""
    scenario = Scenario.from_frame(plant.building.inputs, truth)
    end = truth.index[-1] + pd.Timedelta(hours=1)
    past, week = scenario.between(truth.index[0], plant.planned_from), scenario.between(plant.planned_from, end)
    outlook = Outlook.of(plant.building, past, week, plant.building.outputs)
    return raised_plan(outlook, own_plan(outlook))[0].frame
