"""The page in a real Chromium on loopback: how soon something is seen, how soon What if answers, how much is transferred.

    python -m benchmarks page                        # a furnished office: examples/measured.csv, calibrated, planned
    python -m benchmarks page --pictures docs/images # and pictures of every view for the docs

    first_view_ms   from the start of the navigation until the first view is drawn, cache empty; median and worst over views
    what_if_ms      from the question to the drawn answer, metamodel warm; median and worst of 20
    transferred_kb  everything one view brings with an empty cache, most over views
    what_if_mb      resident memory of the process that answers

Needs chromium with chromedriver, selenium, and the page's library (python hatch_build.py).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "service"))  # the office and the browser of the tests

SLIDE = "const s = document.querySelector('input[type=range]'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
VIEWS = ("now", "plan", "trade-offs", "fit", "savings", "what-if", "points")
REPEATS = 3
QUESTIONS = 20


def measure(pictures: Path | None = None) -> dict[str, float]:
    """Return the figures of one run; keep pictures in a folder where one is named."""
    from browser import Browser

    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        server = spawn.Process(target=_serve, args=(Path(folder), theirs))  # no daemon: it has a child of its own
        server.start()
        url, token = ours.recv()
        browser = Browser(url, token)
        try:
            figures = _first_views(browser) | _what_if(browser)
            ours.send("memory")
            figures["what_if_mb"] = ours.recv()
            if pictures is not None:
                _keep_pictures(browser, pictures)
        finally:
            browser.close()
            ours.send("end")
            server.join(20)
            server.kill()
    return figures


def _first_views(browser: Any) -> dict[str, float]:
    seen_ms, sizes = [], []
    for _ in range(REPEATS):
        for view in VIEWS:
            browser.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
            browser.open(view)
            seen_ms.append(browser.js("return performance.getEntriesByName('first-view')[0].startTime"))
            sizes.append(browser.js("return performance.getEntries().reduce((n, e) => n + (e.transferSize || 0), 0)"))
    return {
        "first_view_ms": statistics.median(seen_ms),
        "first_view_worst_ms": max(seen_ms),
        "transferred_kb": max(sizes) / 1000,
    }


def _what_if(browser: Any) -> dict[str, float]:
    browser.open("what-if")
    browser.until(lambda: "Answered in" in browser.text(), "the first answer")
    took = "return performance.getEntriesByName('what-if').map((e) => e.duration)"
    for n in range(1, QUESTIONS + 1):
        browser.js(
            "const s = document.querySelector('input[type=range]'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))",
            -n / 10,
        )
        browser.until(lambda n=n: len(browser.js(took)) > n, f"answer {n}")
    _first, *others = browser.js(took)
    return {"what_if_ms": statistics.median(others), "what_if_worst_ms": max(others)}


def _keep_pictures(browser: Any, folder: Path) -> None:
    browser.sized(1200)
    for view in VIEWS:
        browser.open(view)
        if view == "what-if":
            browser.until(lambda: "Answered in" in browser.text(), "an answer")
            browser.js(
                "const s = document.querySelector('input[type=range]'); s.value = -1.5; s.dispatchEvent(new Event('input'))"
            )
            time.sleep(2)
        time.sleep(1)
        browser.picture(folder / f"page-{view}.png", 1500 if view == "what-if" else 1000)
    browser.sized(1200, 900, is_dark=True)
    browser.open("now")
    time.sleep(1)
    browser.picture(folder / "page-now-dark.png", 1000)
    browser.sized(360, 780)
    browser.open("now")
    time.sleep(1)
    browser.picture(folder / "page-now-phone.png", 1100)


def _serve(folder: Path, line: Connection) -> None:
    """Body of the server's process: a furnished office, until told to end."""
    from sites import OFFICE_NOW, furnish, office_config, web

    from service.access import make_token
    from service.api import create_api
    from service.app import Service
    from service.clock import TurnedClock
    from service.jobs import resident_mb

    service = Service(office_config(folder, publish__mode="advise"), TurnedClock(OFFICE_NOW))
    furnish(service.store, service.config, n_plans=60, generations=25)
    with web(create_api(service.sources())) as url:
        line.send((url, make_token(service.config.api.token_file, "operator")))
        while line.recv() != "end":
            line.send(resident_mb(service.answering.pid) if service.answering.pid else 0.0)
    service.answering.stop()
    service.store.close()


def main(words: list[str]) -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks page", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--pictures", type=Path, help="keep pictures of every view in this folder")
    told = options.parse_args(words)
    figures = measure(told.pictures)
    print(" ".join(f"{name}={value:.0f}" for name, value in figures.items()))
