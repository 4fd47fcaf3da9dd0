"""`setwise demo`: the main job in minutes.

A hidden building is played over MQTT to a real service, which fits itself to it, plans its week and steers it; the simulator says
what that was worth. Real parts: a broker, `setwise serve` as its own process with its own clock topic, HTTP, the bundle that
ships, EnergyPlus as the building. Played: time, and the sensors (noise, gaps, a dead one). The forecast given to the service is
the weather and occupancy that will come.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pandas as pd
from paho.mqtt.enums import CallbackAPIVersion

from building.description import Building, load_building
from building.errors import BrokerError, ServiceFailedError
from building.plan import WeekProfile
from building.scenario import Scenario
from building.sun import BEAM_COLUMNS
from building.variables import Role
from models.runtime.bundle import load_bundle
from optim.outlook import Outlook
from optim.references import own_plan, raised_plan
from proof.broker import Broker, start_broker
from proof.kpis import Kpis, is_air_no_worse, is_comfort_no_worse, kpis
from proof.plants import WEEK_H, Plant, draw_plant, measure
from proof.player import Replay, replay
from proof.site import Site

BUNDLE = Path(__file__).resolve().parent.parent / "bundles" / "medium_office"
AS_FAST_AS_HEARD = 1e9
VALID_FOR = pd.Timedelta(minutes=90)
COMMIT_S = 2.0
START_LIMIT_S = 60.0
STEP_LIMIT_S = 30.0
JOB_LIMIT_S = 600.0

OpenStage = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Demo:
    """What a played building and its week came to.

    Attributes:
        plant: who was played. verdict: of the calibration, as JSON data.
        baseline: ``own`` or ``own_raised``. promised: meta of the plan, as JSON data.
        own, chosen: KPIs of the simulated week under the baseline and under the setpoints that arrived over MQTT.
        n_messages, n_setpoints: that crossed the broker. broker: its kind. address: of page and API.
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
    broker: str
    address: str
    seconds: float

    @property
    def saving(self) -> float:
        """Simulated share of HVAC energy saved."""
        return 1 - self.chosen.hvac_kwh / self.own.hvac_kwh

    @property
    def is_good(self) -> bool:
        """Whether the week saved energy with comfort and air no worse."""
        return self.saving > 0 and is_comfort_no_worse(self.chosen, self.own) and is_air_no_worse(self.chosen, self.own)

    def facts(self) -> dict[str, Any]:
        """Return the last line's key=value pairs."""
        predicted = float(self.promised.get("saving", {}).get(self.baseline, 0.0))
        return {
            "accepted": int(bool(self.verdict.get("is_accepted"))),
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
        verdict = "accepted" if self.verdict.get("is_accepted") else "REFUSED"
        schedule = "own schedule" if self.baseline == "own" else "own schedule raised to the minimum renewal"
        return [
            (f"calibration {verdict}, held-out hours", ("", "CV(RMSE)", "NMBE", "Guideline 14"), fitted),
            (
                f"the coming week: {schedule} against the plan",
                ("", "own, predicted", "plan, predicted", "own, simulated", "plan, simulated"),
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
        _service(Path(folder), plant, broker, bundle) as service,
    ):
        result = _play(plant, service, broker, open_stage, began)
        on_result(result, service.token)
        if not exit_when_done:
            _wait_for_interrupt()
    return result


def _wait_for_interrupt() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _play(plant: Plant, service: _Service, broker: Broker, open_stage: OpenStage, began: float) -> Demo:
    advance = open_stage("a hidden building lives 4 weeks", 1)
    truth = plant.live()
    measured = measure(plant, truth)
    history = measured[measured.index < plant.planned_from]
    advance(1)
    advance = open_stage("its sensors speak over MQTT", len(history))
    with _Bms(plant.building, broker) as bms:
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
        steered = _replay(plant, broker, week, advance, bms.wait_for)
        arrived, n_setpoints = bms.settings(pd.DatetimeIndex(week.index)), bms.n_heard
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
        n_setpoints=n_setpoints,
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
) -> Replay:
    return replay(
        plant.building,
        frame,
        host=broker.host,
        port=broker.port,
        hours_per_second=AS_FAST_AS_HEARD,
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


class _Bms:
    """The building's side of the commands: hears setpoints, echoes them, remembers for which hour they were."""

    def __init__(self, building: Building, broker: Broker) -> None:
        self._site = Site(building)
        self._settings = building.settings.names
        self._heard: dict[tuple[pd.Timestamp, str], float] = {}
        self._news = threading.Condition()
        self.n_heard = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_message
        self._client.connect(broker.host, broker.port)
        self._client.subscribe([(c["topic"], 1) for c in self._site.commands.values()])

    def __enter__(self) -> _Bms:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        setting, value, echo = self._site.obey(message.topic, bytes(message.payload))
        until = pd.Timestamp(json.loads(message.payload)["valid_until"]).tz_convert("UTC")
        with self._news:
            self._heard[(until - VALID_FOR).floor("h"), setting] = value
            self.n_heard += 1
            self._news.notify_all()
        if echo is not None:
            self._client.publish(*echo, qos=1)

    def wait_for(self, hour: pd.Timestamp) -> None:
        """Wait until every setting of an hour has arrived. Raises BrokerError when one does not."""
        with self._news:
            arrived = self._news.wait_for(lambda: all((hour, n) in self._heard for n in self._settings), STEP_LIMIT_S)
        if not arrived:
            missing = [n for n in self._settings if (hour, n) not in self._heard]
            host, port = "the demo's broker", 0
            raise BrokerError(
                host=host, port=port, reason=f"no setpoint of {', '.join(missing)} for {hour} within {STEP_LIMIT_S:g} s"
            )

    def settings(self, hours: pd.DatetimeIndex) -> pd.DataFrame:
        """Return what was heard for each hour."""
        return pd.DataFrame({n: [self._heard[hour, n] for hour in hours] for n in self._settings}, index=hours)


class _Service:
    """`setwise serve` as its own process, asked over HTTP."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, folder: Path, port: int) -> None:
        self._process = process
        self._log = log
        self._token_file = folder / "token"
        self.address = f"http://127.0.0.1:{port}/"

    @property
    def token(self) -> str:
        """The access token, as printed at the service's first start."""
        found = re.search(r"Access token, shown once: (\S+)", self._log.read_text(encoding="utf-8", errors="replace"))
        return found.group(1) if found else ""

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return self._ask(urllib.request.Request(self.address + path.lstrip("/")))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the JSON of a POST."""
        data = json.dumps(body or {}).encode()
        headers = {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(self.address + path.lstrip("/"), data, headers, method="POST"))

    def _ask(self, request: urllib.request.Request) -> Any:
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            raise ServiceFailedError(reason=f"{request.full_url} answered {e.code}: {e.read().decode()[:400]}") from e
        except OSError as e:
            raise ServiceFailedError(reason=f"{request.full_url}: {e}. {self.last_words()}") from e

    def wait_until_up(self) -> None:
        """Wait for /healthz. Raises ServiceFailedError with the service's last words."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.address + "healthz", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise ServiceFailedError(reason=f"it did not come up. {self.last_words()}")

    def wait_for_readings(self, until: pd.Timestamp) -> None:
        """Wait until the last hour before `until` is in the store."""
        wanted = until - pd.Timedelta(hours=1)
        deadline = time.monotonic() + STEP_LIMIT_S
        while time.monotonic() < deadline:
            last = self.get("/v1/status")["last_reading"]
            if last is not None and pd.Timestamp(last) >= wanted:
                time.sleep(COMMIT_S)  # what arrived with it is committed within this time
                return
            time.sleep(0.2)
        raise ServiceFailedError(reason=f"the readings of {wanted} did not arrive within {STEP_LIMIT_S:g} s")

    def newest_job(self, kind: str) -> int:
        """Return the newest job of a kind, waiting for it to appear."""
        deadline = time.monotonic() + STEP_LIMIT_S
        while time.monotonic() < deadline:
            jobs = self.get(f"/v1/jobs?kind={kind}&limit=1")
            if jobs:
                return int(jobs[0]["id"])
            time.sleep(0.2)
        raise ServiceFailedError(reason=f"no {kind} job was started")

    def follow(self, job: int) -> str:
        """Wait for a job and return its outcome: done or refused. Raises ServiceFailedError for any other end."""
        deadline = time.monotonic() + JOB_LIMIT_S
        while time.monotonic() < deadline:
            found = self.get(f"/v1/jobs/{job}")
            if found["outcome"] in ("done", "refused"):
                return str(found["outcome"])
            if found["outcome"] != "running":
                raise ServiceFailedError(reason=f"job {job} ({found['kind']}) ended as {found['outcome']}: {found['log'][-600:]}")
            time.sleep(0.3)
        raise ServiceFailedError(reason=f"job {job} took longer than {JOB_LIMIT_S:g} s")

    def last_words(self) -> str:
        """Return the end of the service's log."""
        return "Its last words: " + self._log.read_text(encoding="utf-8", errors="replace")[-800:].strip()


@contextmanager
def _service(folder: Path, plant: Plant, broker: Broker, bundle: Path) -> Iterator[_Service]:
    """Commission and start the service: the building's description with its operator's own schedule, the bundle, the broker."""
    site = folder / plant.building.name
    shutil.copytree(plant.building.folder, site)
    (site / "baseline.toml").write_text(_toml(plant.habits), encoding="utf-8")
    port = _free_port()
    environment = os.environ | {
        "SETWISE_BUILDING__NAME": str(site),
        "SETWISE_BUILDING__BUNDLE": str(bundle.resolve()),
        "SETWISE_MQTT__HOST": broker.host,
        "SETWISE_MQTT__PORT": str(broker.port),
        "SETWISE_STORE__URL": f"sqlite:///{folder / 'setwise.db'}",
        "SETWISE_API__PORT": str(port),
        "SETWISE_API__TOKEN_FILE": str(folder / "token"),
        "SETWISE_JOBS__CALIBRATION": "never",
        "SETWISE_JOBS__PLAN": "never",
        "SETWISE_JOBS__THREADS": str(os.cpu_count() or 1),
        "SETWISE_GUARD__MAX_PLAN_AGE_H": str(WEEK_H + 1),
        "SETWISE_PUBLISH__STEP_MIN": "60",
        "SETWISE_PUBLISH__VALID_FOR_MIN": str(int(VALID_FOR / pd.Timedelta(minutes=1))),
        "SETWISE_CLOCK__SOURCE": "topic",
    }
    log = folder / "service.log"
    with open(log, "wb") as out:
        command = [sys.executable, "-m", "setwise", "serve"]
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        service = _Service(process, log, folder, port)
        service.wait_until_up()
        yield service
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _toml(profile: WeekProfile) -> str:
    tables = profile.to_dict()
    return "\n".join(
        f"[{name}]\n" + "".join(f"{day} = {hours}\n" for day, hours in days.items()) for name, days in tables.items()
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
