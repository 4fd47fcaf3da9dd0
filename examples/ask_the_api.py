"""Ask a service over HTTP: what it measured, for a new plan, and what it would set now.

    python examples/ask_the_api.py

A client needs an address and the token printed at the service's first start. To have somebody to ask, this script starts a
service of its own, without a broker, and gives it the readings of measured.csv. A real one: `setwise serve`.
"""

import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
import uvicorn

from service.access import make_token
from service.api import create_api
from service.app import Service
from service.client import Client
from service.clock import TurnedClock
from service.config import load_config
from service.store import Reading
from setwise import read_frame

ROOT = Path(__file__).resolve().parent.parent


def main(folder: Path) -> None:
    """Start a service whose clock stands at the end of the readings, and ask it."""
    measured = read_frame(ROOT / "examples" / "measured.csv")
    now = measured.index[-1] + pd.Timedelta(hours=1)
    told = {
        "SETWISE_BUILDING__BUNDLE": str(ROOT / "bundles" / "medium_office"),
        "SETWISE_STORE__URL": f"sqlite:///{folder / 'setwise.db'}",
        "SETWISE_API__TOKEN_FILE": str(folder / "token"),
        "SETWISE_JOBS__HORIZON_H": "24",
        "SETWISE_GUARD__IS_CALIBRATION_NEEDED": "false",  # this one has had no time to calibrate
    }
    service = Service(load_config(environ=told), TurnedClock(now))
    service.store.add_readings([Reading(str(n), t, v, now) for n in measured for t, v in measured[n].dropna().items()])
    server = uvicorn.Server(uvicorn.Config(create_api(service.sources()), port=0, log_config=None))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    client = Client(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", make_token(folder / "token"))
    print(client.series(["outdoor_air_temperature", "core_mid_air_temperature"], end=now).tail(3))
    job = client.wait(client.plan())  # searched in a process of its own; `client.calibrate()` works alike
    print(job["log"])
    for s in client.get("setpoints")["settings"]:
        print(f"{s['variable']:>24} {s['value']:6.2f} {s['unit']:<8} until {s['valid_until']}")
    print(f"outcome={job['outcome']} saving={client.get('plan')['meta']['saving'][client.get('front')['baseline']]:.3f}")
    server.should_exit = True
    service.stop()


if __name__ == "__main__":  # the child of a job imports this file again
    with tempfile.TemporaryDirectory(prefix="setwise-example-") as name:
        main(Path(name))
