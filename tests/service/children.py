"""What children of tests do; importable by name, as the body of a job must be."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from building.description import Building, load_building
from building.errors import StoreError
from building.plan import Plan
from service.clock import TurnedClock
from service.config import MqttSection, PublishSection
from service.mqtt import MqttLink
from service.points import Points, PointsFile
from service.publish import Publisher
from service.store import Reading, SqlStore

T0 = pd.Timestamp("2026-01-05T00:00Z")


def crash() -> None:
    """Die inside a library, as onnxruntime would."""
    import ctypes

    print("opening the bundle", flush=True)
    ctypes.string_at(0)


def hoard(mb: int) -> None:
    """Take memory and keep it."""
    kept = []
    for _ in range(mb // 10):
        kept.append(bytearray(os.urandom(1000) * 10_000))
        time.sleep(0.02)
    time.sleep(600)


def whisper(n: int) -> dict[str, int]:
    for i in range(n):
        print("line", i)
    return {"n": n}


def search() -> dict[str, object]:
    """Import what both searches need; say what came along, and run CMA-ES a little."""
    import cma

    import calibration.calibrate  # noqa: F401
    import optim.search  # noqa: F401

    es = cma.CMAEvolutionStrategy([1.0, 1.0], 0.5, {"seed": 1, "verbose": -9, "maxiter": 40})
    es.optimize(lambda x: float(x[0] ** 2 + x[1] ** 2))
    loaded = [name for name in ("matplotlib", "scipy.stats") if sys.modules.get(name) is not None]
    return {"loaded": loaded, "best": float(es.result.fbest)}


def write_until_killed(url: str, first: int, sender: Connection) -> None:
    """Write readings and job results for ever; say each number once it is committed, as ingest acknowledges to the broker."""
    store = SqlStore(url)
    index = pd.date_range(T0, periods=2, freq="h")
    plan = Plan(pd.DataFrame({"heating_setpoint": 20.0, "cooling_setpoint": 25.0}, index=index), "optimised", T0)
    store.interrupt_jobs(T0)
    for n in range(first, first + 100_000):
        stamp = T0 + pd.Timedelta(seconds=n)
        store.add_readings([Reading("a", stamp, float(n), stamp), Reading("b", stamp, -float(n), stamp)])
        sender.send(n)
        if n % 3 == 0:
            job = store.start_job("plan", stamp)
            with store.transaction():  # as operations.enter_plan does
                store.add_front({"n": n}, stamp)
                store.add_plan(plan, stamp)
                store.end_job(job, "done", stamp)
        if n % 20 == 0:
            store.compact(stamp - pd.Timedelta(hours=1), 15)


def change_schema(url: str, way: str, copies: Path, is_held: bool, sender: Connection) -> None:
    """Upgrade a store, or take it back, as a start of the service or `setwise downgrade` does; held: never commit the change."""
    from service.store import schema
    from service.store.backup import go_back

    change = "upgrade" if way == "up" else "downgrade"
    whole = getattr(schema, change)

    def held(c: sa.Connection, to: str = schema.HEAD) -> None:
        whole(c, to)
        if c.dialect.name == "sqlite" and "part" in c.engine.url.database:
            return  # the copy that is made before
        sender.send("changed, not committed")
        time.sleep(60)

    if is_held:
        setattr(schema, change, held)
    else:
        sender.send("at work")
    if way == "up":
        SqlStore(url, copies).close()
    else:
        go_back(url, "0001", copies)
    time.sleep(60)


def retaining(building: Building) -> Points:
    """Return points that keep the heating setpoint at the broker and only send the cooling setpoint."""
    commands = {
        "heating_setpoint": {"topic": "set/heating", "retain": True, "echo": {"topic": "echo/heating"}},
        "cooling_setpoint": {"topic": "set/cooling"},
    }
    return Points(PointsFile.model_validate({"building": building.name, "points": {}, "commands": commands}), building)


def told(publisher: Publisher, value: float = 20.0) -> None:
    """Tell both setpoints."""
    until = publisher.clock.now() + pd.Timedelta(minutes=45)
    publisher.set({"heating_setpoint": value, "cooling_setpoint": value + 5}, until, plan_id=1)


def hold_then_release(url: str, port: int, orders: Connection) -> None:
    """Body of a child: tell two setpoints; when told so, release them."""
    store = SqlStore(url)
    link = MqttLink(MqttSection(host="127.0.0.1", port=port, reconnect_max_s=1), "two_node", [], lambda m: None)
    publisher = Publisher(retaining(load_building("two_node")), store, link, TurnedClock(T0), PublishSection())
    link.on_sent, link.on_connected = publisher.sent, publisher.reconnected
    link.start()
    link.wait_connected(60)
    told(publisher)
    while any(p.state == "waiting" for p in publisher.current().values()):
        publisher.tick()
        time.sleep(0.05)
    orders.send("told")
    orders.recv()
    while link.is_connected:
        time.sleep(0.05)
    publisher.release()
    orders.send("released")
    time.sleep(600)


def serve_for_good(folder: Path, environ: dict[str, str], sender: Connection) -> None:
    """Be the service of the site in `folder`; say what it announces."""
    from sites import open_rc, two_node_config

    from service.app import serve

    serve(two_node_config(folder, **environ), sender.send, open_rc)


def write_and_hold(url: str, sender: Connection) -> None:
    """Write much in one transaction and never end it."""
    store = SqlStore(url)
    with store.transaction():
        index = pd.date_range(T0, periods=2, freq="h")
        store.add_plan(Plan(pd.DataFrame({"heating_setpoint": 20.0, "cooling_setpoint": 25.0}, index=index), "optimised", T0), T0)
        store.add_rows([("a", 1000 * i, 1.0, "good", 0) for i in range(100, 100_000)])
        sender.send("written, not committed")
        time.sleep(60)


def back_up_for_good(url: str, file: Path, sender: Connection) -> None:
    """Make one backup after the other."""
    store = SqlStore(url)
    sender.send("at work")
    while True:
        store.backup(file)


def restore_and_say(url: str, file: Path, sender: Connection) -> None:
    """Put a backup back, again and again."""
    from service.store.backup import restore

    sender.send("at work")
    while True:
        restore(url, file, is_forced=True)


def write_within_limits(url: str, sender: Connection) -> None:
    """Write until no file may grow; send the sentence, how many were kept, how many are found, and how long it took to go on."""
    import resource

    store, n, sentence = SqlStore(url), 0, ""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, most))
    while not sentence:
        try:
            store.add_rows([("a", n + i, 1.0, "good", 0) for i in range(50)])
            n += 50
        except StoreError as e:
            sentence = str(e)
    found = store.counts()["readings"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    began = time.monotonic()
    store.add_rows([("b", i, 1.0, "good", 0) for i in range(50)])
    sender.send((sentence, n, found, time.monotonic() - began))
