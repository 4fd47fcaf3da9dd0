"""docs/client.md, run against a service over HTTP: every snippet works, and between them they ask every route there is."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from sites import NOW, fill, lived, open_rc, two_node_config

from service import operations
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str, set[str]]]:
    """Give address and admin's token of a service with a month of readings and a plan, and its routes. Jobs end at once."""
    service = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    fill(service.store, lived())
    result = operations.replan(service.store, service.building, open_rc(service.config), service.config, NOW, 16, 3)
    operations.enter_plan(service.store, service.store.start_job("plan", NOW), result, NOW)
    api = create_api(replace(service.sources(), ask=lambda kind: 1))
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    routes = {f"{method.upper()} {path}" for path, methods in api.openapi()["paths"].items() for method in methods}
    yield f"http://127.0.0.1:{port}", make_token(tmp_path / "token"), routes
    server.should_exit = True
    thread.join(20)
    service.answering.stop()
    service.store.close()


def test_every_snippet_of_the_page_works_and_every_route_is_asked(served, monkeypatch: pytest.MonkeyPatch) -> None:
    address, token, routes = served
    asked: set[str] = set()
    real = urllib.request.urlopen

    def spying(request: urllib.request.Request, *rest: object, **more: object) -> object:
        asked.add(f"{request.get_method()} {request.full_url.removeprefix(address).partition('?')[0]}")
        return real(request, *rest, **more)

    monkeypatch.setattr(urllib.request, "urlopen", spying)
    names: dict[str, object] = {}
    for snippet in SNIPPETS:
        exec(snippet.replace("http://localhost:8080", address).replace("<token>", token), names)
    assert len(names["series"]) > 100 and names["now"]["settings"] and names["first"]["settings"]  # type: ignore[index,arg-type]
    patterns = {route: re.compile(re.sub(r"\{\w+\}", "[^/]+", route)) for route in routes}
    assert {route for route, pattern in patterns.items() if not any(pattern.fullmatch(one) for one in asked)} == set()
