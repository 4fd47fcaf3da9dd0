"""What people tell the service: modes, confirmations, overrides; who wins, what leaves, and that all of it outlives a restart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sites import NOW, fill, lived, open_rc, two_node_config

from building.errors import StoreError
from service import operations, orders
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock
from service.guard import PRECEDENCE
from service.store import Reading, RegimeRecord

MINUTE = pd.Timedelta(minutes=1)


class Line:
    """Stands for the broker; keeps what leaves."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, bool]] = []

    def publish(
        self, topic: str, payload: bytes | str, is_retained: bool = False, expires_in_s: float | None = None, qos: int = 1
    ) -> int:
        self.sent.append((topic, payload.decode() if isinstance(payload, bytes) else payload, is_retained))
        return len(self.sent)


class Site:
    """A service with a plan, its line and an operator's client; not started."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.service = Service(two_node_config(folder, **environ), TurnedClock(NOW), open_rc)
        self.line = self.service.publisher.line = self.service.publisher.outbox.line = Line()
        token = make_token(folder / "token", "operator")
        self.client = TestClient(create_api(self.service.sources()), headers={"Authorization": f"Bearer {token}"})

    def add_plan(self, heating: float = 18.0) -> int:
        index = pd.date_range(NOW.floor("h"), periods=168, freq="h")
        row = {"heating_setpoint": heating, "cooling_setpoint": 26.0, "system_on": 1.0, "outdoor_air_flow": 3.0}
        row["supply_air_temperature"] = 15.0
        plan = operations.Plan(pd.DataFrame(row, index=index), "optimised", NOW)
        self.service.store.add_calibration({"parameters": {}}, NOW, is_accepted=True)
        return self.service.store.add_plan(plan, NOW)

    def tick(self, minutes: float = 0) -> list[tuple[str, str, bool]]:
        """Let time pass and return what left."""
        self.line.sent.clear()
        self.service.clock.turn(self.service.clock.now() + minutes * MINUTE)
        self.service.tick()
        return list(self.line.sent)

    def mode(self, mode: str) -> None:
        assert self.client.put("/v1/mode", json={"mode": mode, "reason": "a test"}).status_code == 200

    def hold(self, setting: str = "heating_setpoint", value: float = 23.0, hours: float = 4):
        until = (self.service.clock.now() + hours * 60 * MINUTE).isoformat()
        body = {"setting": setting, "value": value, "until": until, "reason": "meeting"}
        return self.client.post("/v1/overrides", json=body)

    def shown(self, setting: str) -> dict:
        return {s["variable"]: s for s in self.client.get("/v1/setpoints").json()["settings"]}[setting]


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    fill(site.service.store, lived(hours=24))
    yield site
    site.service.store.close()


def test_watch_lets_nothing_leave_and_plans_are_shown_all_the_same(site: Site) -> None:
    site.add_plan()
    site.mode("watch")
    assert site.tick() == [] and site.tick(20) == []
    assert site.shown("heating_setpoint")["source"] == "plan" and not site.shown("heating_setpoint")["is_leaving"]


def test_advise_sends_a_plan_only_once_a_person_confirmed_it(site: Site) -> None:
    first = site.add_plan()
    site.mode("advise")
    assert site.tick() == [] and site.client.get("/v1/status").json()["plan_waiting"] == first
    answer = site.client.post(f"/v1/plans/{first}/confirm", json={"reason": "looks right"})
    assert answer.json() == {"plan": first, "state": "confirmed"}
    assert len([t for t, _, _ in site.tick() if t.endswith("/set")]) == len(site.service.building.settings)
    second = site.add_plan(heating=19.0)
    site.service._is_plan_new.set()
    site.tick(5)
    assert site.service.store.last_publications()["heating_setpoint"].plan_id == first
    assert site.client.get("/v1/status").json()["plan_waiting"] == second


def test_plan_that_was_withdrawn_is_not_followed(site: Site) -> None:
    plan = site.add_plan()
    site.tick()
    assert site.service.decide().plan_id == plan
    assert site.client.post(f"/v1/plans/{plan}/withdraw", json={"reason": "too cold"}).status_code == 200
    assert site.service.decide().origin == "own"
    assert site.client.post(f"/v1/plans/{plan}/confirm", json={"reason": "no, it is fine"}).status_code == 404


def test_maintenance_releases_what_was_sent_sends_nothing_and_still_takes_readings(site: Site) -> None:
    site.tick()
    site.mode("maintenance")
    released = site.tick()
    assert len(released) == len(site.service.building.settings)
    assert all('"value": null' in payload and '"plan": "released"' in payload for _, payload, _ in released)
    assert {p.state for p in site.service.store.last_publications().values()} == {"released"}
    assert site.tick(30) == []
    before = site.service.store.counts()["readings"]
    fill(site.service.store, lived(now=NOW + pd.Timedelta(hours=2), hours=1))
    assert site.service.store.counts()["readings"] > before


def test_mode_outlives_a_restart_and_what_a_former_process_sent_is_released(tmp_path) -> None:
    site = Site(tmp_path)
    site.tick()
    orders.set_mode(site.service.store, "maintenance", NOW, "anna", "boiler")
    site.service.store.close()
    again = Site(tmp_path)
    told = again.client.get("/v1/mode").json()
    assert (told["mode"], told["who"], told["reason"]) == ("maintenance", "anna", "boiler")
    assert len(again.tick()) == len(again.service.building.settings)
    again.service.store.close()


def test_override_holds_against_plan_and_own_schedule_until_its_end(site: Site) -> None:
    site.add_plan()
    assert site.hold(value=21.0, hours=2).status_code == 201
    site.tick()
    assert site.shown("heating_setpoint")["source"] == "override" and site.shown("heating_setpoint")["value"] == 21.0
    assert site.shown("cooling_setpoint")["source"] == "plan"
    site.add_plan(heating=17.0)
    site.service._is_plan_new.set()
    site.tick(110)
    assert site.shown("heating_setpoint")["value"] == 21.0
    site.tick(15)
    assert site.shown("heating_setpoint")["source"] != "override"


def test_override_outlives_a_restart_and_a_failing_store(tmp_path, monkeypatch) -> None:
    site = Site(tmp_path)
    site.hold(value=21.0)
    site.service.store.close()
    again = Site(tmp_path)

    def broken(*_: object, **__: object) -> None:
        raise StoreError(url="sqlite", reason="database is locked")

    monkeypatch.setattr(again.service.store, "last", broken)
    assert again.service.decide().settings["heating_setpoint"] == 21.0
    assert again.service.decide().sources["heating_setpoint"] == "override"
    again.service.store.close()


def test_safety_limits_pass_an_override_and_say_so(site: Site) -> None:
    site.hold("outdoor_air_flow", 0.0)
    shown = site.shown("outdoor_air_flow")
    assert shown["value"] > 0 and shown["source"] == "safety"
    assert any("EN 16798-1" in note for note in site.client.get("/v1/setpoints").json()["notes"])


def test_cooling_setpoint_that_a_person_holds_makes_heating_give_way(site: Site) -> None:
    site.add_plan(heating=22.0)
    site.hold("cooling_setpoint", 22.0)
    settings = site.service.decide()
    assert settings.settings["cooling_setpoint"] == 22.0 and settings.settings["heating_setpoint"] == 21.0
    assert (settings.sources["cooling_setpoint"], settings.sources["heating_setpoint"]) == ("override", "safety")


@pytest.mark.parametrize(
    ("setting", "value", "hours", "code", "said"),
    [
        ("heating_setpont", 20, 4, 404, "Did you mean 'heating_setpoint'?"),
        ("heating_setpoint", 90, 4, 422, "lies outside"),
        ("heating_setpoint", 20, -1, 422, "which is past"),
        ("heating_setpoint", 20, 169, 422, "at most 168 h"),
    ],
)
def test_override_that_cannot_be_is_refused_and_nothing_is_logged(site: Site, setting, value, hours, code, said) -> None:
    answer = site.hold(setting, value, hours)
    assert answer.status_code == code and said in answer.json()["message"]
    assert site.service.audit.head().seq == 0 and site.client.get("/v1/overrides").json() == []


def test_override_is_taken_back_by_a_person_with_a_reason(site: Site) -> None:
    made = site.hold().json()
    assert site.client.delete(f"/v1/overrides/{made['id']}").status_code == 422
    gone = site.client.delete(f"/v1/overrides/{made['id']}?reason=meeting+over").json()
    assert not gone["is_in_force"] and gone["ended_by"].startswith("operator")
    assert site.shown("heating_setpoint")["source"] == "own"
    assert site.client.delete(f"/v1/overrides/{made['id']}?reason=again").status_code == 404


def test_override_leaves_in_advise_but_not_in_watch(site: Site) -> None:
    site.mode("advise")
    site.hold()
    assert [t for t, _, _ in site.tick() if t.endswith("/set")] == ["site/heating_setpoint/set"]
    site.mode("watch")
    assert all('"value": null' in p for _, p, _ in site.tick())


def test_status_shows_mode_precedence_and_overrides(site: Site) -> None:
    site.mode("advise")
    site.hold()
    status = site.client.get("/v1/status").json()
    assert status["mode"]["mode"] == "advise" and status["mode"]["reason"] == "a test"
    assert list(status["precedence"]) == list(PRECEDENCE) == ["plant", "safety", "override", "plan", "own"]
    assert [o["setting"] for o in status["overrides"]] == ["heating_setpoint"] and status["changeover"] == "both"


def test_every_change_by_a_person_is_in_the_log_with_who_and_why(site: Site) -> None:
    plan = site.add_plan()
    site.mode("advise")
    made = site.hold().json()
    site.client.post(f"/v1/plans/{plan}/confirm", json={"reason": "looks right"})
    site.client.delete(f"/v1/overrides/{made['id']}?reason=over")
    entries = site.service.audit.entries()
    assert [e.action for e in reversed(entries)] == ["set_mode", "override", "confirm_plan", "end_override"]
    assert all(e.who.startswith("operator") and "reason" in e.detail for e in entries)
    assert site.service.audit.verify().faults == ()


@pytest.mark.parametrize(("month", "idle"), [("2026-02-02", "cooling_setpoint"), ("2026-07-01", "heating_setpoint")])
def test_plant_that_is_changed_over_is_not_asked_for_the_other(tmp_path, month, idle) -> None:
    config = two_node_config(tmp_path, guard__changeover="calendar")
    service = Service(config, TurnedClock(pd.Timestamp(f"{month}T15:10Z")), open_rc)
    v = service.building.settings[idle]
    decision = service.decide()
    assert decision.settings[idle] == (v.high if idle == "cooling_setpoint" else v.low)
    assert decision.sources[idle] == "safety"
    service.store.close()


def test_heart_beats_once_a_minute_while_setpoints_are_kept_up_and_not_otherwise(site: Site) -> None:
    def beats(sent: list[tuple[str, str, bool]]) -> int:
        return sum(t == "setwise/two_node/heartbeat" for t, _, _ in sent)

    assert beats(site.tick()) == 1 and beats(site.tick(0.5)) == 0 and beats(site.tick(0.5)) == 1
    assert not any(retained for _, _, retained in site.line.sent)
    site.mode("watch")
    assert beats(site.tick(5)) == 0


def test_retained_setpoints_are_cleared_on_a_clean_stop(tmp_path) -> None:
    config = two_node_config(tmp_path)
    points = tmp_path / "points.toml"
    points.write_text(points.read_text().replace('heating_setpoint/set" }', 'heating_setpoint/set", retain = true }'))
    service = Service(config, TurnedClock(NOW), open_rc)
    line = service.publisher.line = service.publisher.outbox.line = Line()
    service.tick()
    assert [t for t, _, retained in line.sent if retained] == ["site/heating_setpoint/set"]
    line.sent.clear()
    service.stop()
    assert line.sent == [("site/heating_setpoint/set", "", True)]


def test_setpoint_the_bms_did_not_confirm_is_shown(tmp_path) -> None:
    site = Site(tmp_path, publish__acknowledge_min="2")
    points = site.service.points
    from service.points import Source

    command = points.commands["heating_setpoint"]
    points.commands["heating_setpoint"] = command.model_copy(update={"echo": Source(topic="site/echo")})
    site.tick()
    site.service.publisher.sent(next(i for i, (t, _, _) in enumerate(site.line.sent, 1) if t == "site/heating_setpoint/set"))
    site.tick(1)
    assert site.client.get("/v1/status").json()["unconfirmed"] == []
    site.tick(2)
    assert site.client.get("/v1/status").json()["unconfirmed"] == ["heating_setpoint"]
    assert site.shown("heating_setpoint")["published"] == "unconfirmed"
    site.service.store.close()


def test_building_that_does_not_do_what_was_predicted_gets_its_own_schedule_and_says_so(site: Site) -> None:
    site.add_plan()
    site.tick()
    assert site.client.get("/v1/setpoints").json()["origin"] == "optimised"
    now, store = site.service.clock.now(), site.service.store
    hours = pd.date_range(now.ceil("h"), periods=8, freq="h")
    store.add_forecast(pd.DataFrame({"zone_air_temperature": 21.0}, index=hours), now)
    store.note_regime(RegimeRecord(hours[0], hours[-1] + 60 * MINUTE, "plan"))
    store.add_readings([Reading("zone_air_temperature", t + MINUTE, 26.0, t) for t in hours])
    site.tick(minutes=9 * 60)
    shown = site.client.get("/v1/setpoints").json()
    assert shown["origin"] == "own" and shown["notes"][0].startswith("zones are 5.0 K from what was predicted")
