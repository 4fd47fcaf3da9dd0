"""The whole service: without a broker, with one, told to end, killed while a job runs; light, and free of the workshop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from sites import NOW, fill, hanging_rc, lived, open_rc, two_node_config

from building.errors import BadDescriptionError, JobOverlapError
from proof.broker import start_broker
from service import operations
from service.app import Service
from service.clock import TurnedClock
from service.store import SqlStore

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent


@pytest.fixture
def service(tmp_path):
    """Not started: tests turn its clock and call its tick."""
    service = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    yield service
    service.jobs.stop()
    service.store.close()


def add_plan(service: Service, issued: pd.Timestamp = NOW) -> None:
    index = pd.date_range(issued.floor("h"), periods=168, freq="h")
    row = {
        "heating_setpoint": 18.0,
        "cooling_setpoint": 26.0,
        "system_on": 1.0,
        "outdoor_air_flow": 3.0,
        "supply_air_temperature": 15.0,
    }
    plan = operations.Plan(pd.DataFrame(row, index=index), "optimised", issued)
    service.store.add_calibration({"parameters": {}}, issued, is_accepted=True)
    service.store.add_plan(plan, issued)


# -- the loop, by hand


def test_setpoints_are_renewed_once_per_step_and_when_the_plan_changes(service) -> None:
    fill(service.store, lived(hours=24))
    for minutes in (0, 1, 4, 5, 6):
        service.clock.turn(NOW + pd.Timedelta(minutes=minutes))
        service.tick()
    made = [p.made for p in service.store.publications(NOW, NOW + pd.Timedelta(hours=1)) if p.setting == "heating_setpoint"]
    assert made == [NOW, NOW + pd.Timedelta(minutes=5)]
    add_plan(service)
    service._is_plan_new.set()
    service.tick()
    last = service.store.last_publications()["supply_air_temperature"]
    assert last.made == NOW + pd.Timedelta(minutes=6) and last.plan_id is not None


def test_setpoint_is_valid_until_its_step_plus_the_configured_time(service) -> None:
    service.tick()
    assert service.store.last_publications()["heating_setpoint"].valid_until == pd.Timestamp("2026-02-02T15:45Z")


def test_advice_mode_decides_but_publishes_nothing(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, publish__mode="advise"), TurnedClock(NOW), open_rc)
    service.tick()
    assert service.store.last_publications() == {}
    assert set(service.decide().settings) == set(service.building.settings.names)
    service.store.close()


def test_service_whose_clock_topic_has_not_spoken_publishes_nothing(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, clock__source="topic"), open_predictor=open_rc)
    service.tick()
    assert service.store.last_publications() == {}
    service.store.close()


def test_store_that_fails_leaves_the_own_schedule(service, monkeypatch) -> None:
    from building.errors import StoreError

    add_plan(service)
    fill(service.store, lived(hours=24))
    assert service.decide().origin == "optimised"

    def broken(*_: object, **__: object) -> None:
        raise StoreError(url="sqlite", reason="database is locked")

    monkeypatch.setattr(service.store, "plan_in_force", broken)
    assert service.decide().origin == "own"


def test_job_runs_on_its_cadence_and_overlap_is_refused(tmp_path) -> None:
    config = two_node_config(tmp_path, jobs__plan="0 * * * *")
    service = Service(config, TurnedClock(NOW), hanging_rc)
    service.tick()
    assert not service.jobs.running()
    service.clock.turn(NOW + pd.Timedelta(minutes=61))
    service.tick()
    assert set(service.jobs.running()) == {"plan"}
    with pytest.raises(JobOverlapError):
        service.ask("plan")
    service.clock.turn(NOW + pd.Timedelta(minutes=125))
    service.tick()  # due again while it runs: left out, setpoints go on
    assert len(service.store.jobs()) == 1
    assert service.store.last_publications()["heating_setpoint"].made == service.clock.now()
    service.jobs.stop()
    service.store.close()


def test_hanging_plan_search_is_ended_and_the_former_plan_stays_in_force(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, jobs__plan_limit_s="1.5"), TurnedClock(NOW), hanging_rc)
    fill(service.store, lived(hours=24))
    add_plan(service)
    service.ask("plan")
    assert service.jobs.wait("plan", 20)
    assert service.store.jobs()[0].outcome == "timed_out"
    assert service.decide().origin == "optimised"
    service.store.close()


def test_plan_job_without_readings_is_refused_in_the_journal(service) -> None:
    service.ask("plan")
    assert service.jobs.wait("plan", 120)
    job = service.store.jobs()[0]
    assert job.outcome == "refused" and "outdoor_air_temperature" in job.log


def test_bundle_that_is_not_there_is_a_refused_job_with_its_path(tmp_path) -> None:
    config = two_node_config(tmp_path, building__bundle=str(tmp_path / "nowhere"))
    service = Service(config, TurnedClock(NOW))
    service.ask("plan")
    assert service.jobs.wait("plan", 120)
    job = service.store.jobs()[0]
    assert job.outcome == "refused" and "nowhere" in job.log
    service.store.close()


def test_port_in_use_is_a_clear_error(tmp_path) -> None:
    import socket

    from service.app import serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadDescriptionError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(two_node_config(tmp_path, api__port=str(port)), lambda _text: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


# -- as a process


class Running:
    """A service in a process of its own, which ends with the `with` block whatever happens in it."""

    def __init__(self, folder: Path, predictor: str = "open_rc", **environ: str) -> None:
        program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
import sites
from service.app import serve
if __name__ == "__main__":
    serve(sites.two_node_config(Path({str(folder)!r}), **{environ!r}), lambda text: print(text, flush=True), sites.{predictor})
"""
        file = folder / "serve.py"
        file.write_text(program)
        self.process = subprocess.Popen(
            [sys.executable, str(file)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
        self.said: list[str] = []
        try:
            while not self.said or not self.said[-1].startswith("Page"):
                line = self.process.stdout.readline()
                assert line, f"the service ended: {self.said}"
                self.said.append(line)
        except BaseException:
            self.end()
            raise
        self.url = self.said[-1].split()[-1]

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process if the test did not: told first, so that it ends its jobs, then killed."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def ask(self, route: str, method: str = "GET"):
        request = urllib.request.Request(self.url + route, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())


def until(true, timeout_s: float = 90.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.25)  # each look is a request: looking more often starves what is looked at
    raise AssertionError("it did not happen in time")


OPEN = {"api__port": "0", "api__is_open": "true"}


@pytest.mark.faults
def test_service_without_a_broker_serves_and_ends_in_order_when_told(tmp_path) -> None:
    with Running(tmp_path, **OPEN) as running:
        status = running.ask("v1/status")
        assert status["is_broker_connected"] is False
        assert len(running.ask("v1/setpoints")["settings"]) == 5
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(15) == 0


@pytest.mark.faults
def test_token_is_announced_at_the_first_start_only(tmp_path) -> None:
    for n_tokens in (1, 0):
        with Running(tmp_path, api__port="0") as running:
            assert sum("token" in line for line in running.said) == n_tokens
            running.process.terminate()
            running.process.wait(15)


@pytest.mark.faults("service killed in a job")
def test_service_killed_while_a_job_runs_comes_back_with_everything_and_the_job_marked(tmp_path, recovery) -> None:
    config = two_node_config(tmp_path)
    store = SqlStore(config.store.url.get_secret_value())
    fill(store, lived(hours=48))
    readings = store.counts()["readings"]
    with Running(tmp_path, "hanging_rc", **OPEN) as running:
        running.ask("v1/plans", "POST")
        assert running.ask("v1/status")["running"] == ["plan"]
        running.process.kill()
        running.process.wait()
        began = time.monotonic()
    with Running(tmp_path, **OPEN) as again:
        recovery.took(time.monotonic() - began)
        assert [j["outcome"] for j in again.ask("v1/jobs")] == ["interrupted"]
        job = again.ask("v1/plans", "POST")["job"]
        done = until(lambda: (j := again.ask(f"v1/jobs/{job}"))["ended"] and j)
        # The readings are of February 2026, the clock is the machine's: too old a past is refused, and the service lives.
        assert done["outcome"] == "refused"
        assert store.counts()["readings"] == readings
        again.process.terminate()
        assert again.process.wait(15) == 0
    store.close()


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_weeks_on_mqtt_become_a_calibration_a_plan_and_setpoints_on_mqtt(tmp_path) -> None:
    month = lived(hours=456)
    with start_broker() as broker, Running(tmp_path, mqtt__port=str(broker.port), clock__source="topic", **OPEN) as running:
        commands: dict[str, dict] = {}
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="site")
        client.on_message = lambda _c, _u, m: commands.__setitem__(m.topic, json.loads(m.payload))
        client.max_inflight_messages_set(500)
        client.connect(broker.host, broker.port)
        client.subscribe("site/+/set", qos=1)
        client.loop_start()
        until(lambda: running.ask("v1/status")["is_broker_connected"])
        client.publish("setwise/two_node/clock", NOW.isoformat(), qos=1).wait_for_publish(10)
        rows = ((str(c), t, v) for c in month for t, v in month[c].items())
        for name, stamp, value in rows:
            client.publish(f"site/{name}", json.dumps({"value": value, "time": stamp.isoformat()}), qos=1)
        n_readings = month.size
        until(lambda: running.ask("v1/status")["rows"]["readings"] == n_readings, 120)
        assert running.ask("v1/setpoints")["origin"] == "own"
        calibration = running.ask("v1/calibrations", "POST")["job"]
        assert until(lambda: (j := running.ask(f"v1/jobs/{calibration}"))["ended"] and j, 240)["outcome"] == "done"
        # An accepted calibration plans at once, and a new plan is published at once.
        until(lambda: running.ask("v1/setpoints")["origin"] == "optimised", 240)
        told = until(lambda: (c := commands.get("site/heating_setpoint/set", {})).get("plan") not in (None, "own") and c)
        shown = {s["variable"]: s for s in running.ask("v1/setpoints")["settings"]}
        assert told["value"] == pytest.approx(shown["heating_setpoint"]["value"], abs=1e-6)
        assert pd.Timestamp(told["valid_until"]) > NOW
        saved = running.ask("v1/plan")["meta"]["saving"]
        assert min(saved.values()) > -0.05 and max(saved.values()) > 0
        client.loop_stop()
        running.process.terminate()
        assert running.process.wait(15) == 0


# -- light, and without the workshop


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        is_offline = name.startswith("models.") and not name.startswith("models.runtime")
        if top in ("torch", "onnx", "pyenergyplus", "simulation", "proof") or is_offline:
            raise ImportError(f"{name} is blocked: the gateway must not need it")
sys.meta_path.insert(0, Blocked())
"""


def test_service_and_its_verbs_import_without_torch_onnx_energyplus_and_simulation() -> None:
    program = (
        BLOCK
        + """
import pkgutil, importlib, service
for module in pkgutil.iter_modules(service.__path__):
    importlib.import_module(f"service.{module.name}")
import calibration.calibrate, optim.search, optim.choice, models.runtime.session
"""
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]


def test_idle_service_stays_under_300_mb_and_leaves_heavy_libraries_to_its_jobs(tmp_path) -> None:
    with Running(tmp_path, **OPEN) as running:
        for route in ("v1/status", "v1/setpoints", "v1/points", "v1/zones"):
            running.ask(route)
        text = Path(f"/proc/{running.process.pid}/status").read_text()
        resident_mb = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024
        maps = Path(f"/proc/{running.process.pid}/maps").read_text()
        running.process.terminate()
        running.process.wait(15)
    assert resident_mb <= 300
    assert "onnxruntime" not in maps and "/scipy/" not in maps
