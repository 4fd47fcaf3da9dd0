"""docs/api.md against the API itself: every route has its entry, and every curl on the page is answered."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pages
import pytest
from fastapi.testclient import TestClient
from sites import NOW, fill, lived, open_rc, two_node_config

from service import operations
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock
from service.store import Outcome

PAGE = pages.text_of("docs/api.md")
ENTRIES: dict[str, str] = dict(re.findall(r"^### `([A-Z]+ \S+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
CURLS = {title: re.findall(r"^curl .*$", text, re.MULTILINE) for title, text in ENTRIES.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def token(folder: Path) -> str:
    return make_token(folder / "token")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    """The API over a month of readings and a plan; a job that is asked for is not started."""
    service = Service(two_node_config(folder), TurnedClock(NOW), open_rc)
    fill(service.store, lived())
    result = operations.replan(service.store, service.building, open_rc(service.config), service.config, NOW, 16, 3)
    operations.enter_plan(service.store, service.store.start_job("plan", NOW), result, NOW)
    sources = replace(service.sources(), ask=lambda kind: 1)
    yield TestClient(create_api(sources))
    service.store.close()


def test_every_route_has_its_entry_and_every_entry_its_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(ENTRIES) == routes


def test_every_command_of_the_page_stands_under_its_route() -> None:
    under = [curl for curls in CURLS.values() for curl in curls]
    assert [c for c in pages.commands("docs/api.md") if not c.startswith("export ")] == under


def test_every_query_parameter_is_told(client: TestClient) -> None:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, route in methods.items():
            for parameter in route.get("parameters", []):
                if parameter["in"] == "query":
                    assert f"`{parameter['name']}" in ENTRIES[f"{method.upper()} {path}"], (path, parameter["name"])


@pytest.mark.parametrize("title", ENTRIES)
def test_the_curl_of_the_page_is_answered(client: TestClient, token: str, title: str) -> None:
    (curl,) = CURLS[title]
    method, path, headers, body = asked(curl, token)
    assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", title), f"{method} {path.partition('?')[0]}")
    if title == "DELETE /v1/tokens/{token}":  # the page's id is made up; one that is there takes its place
        made = client.post("/v1/tokens", headers=headers, json={"name": "wall", "role": "viewer", "days": 1}).json()
        path = path.replace("1a2b3c4d", made["id"])
    answer = client.request(method, path, headers=headers, content=body)
    assert answer.status_code in (200, 201, 202), answer.text
    if title not in ("GET /healthz", "GET /readyz"):
        bare = {k: v for k, v in headers.items() if k != "Authorization"}
        assert client.request(method, path, headers=bare, content=body).status_code == 401


def test_every_outcome_of_a_job_is_told() -> None:
    assert all(f"`{outcome}`" in ENTRIES["GET /v1/jobs/{job}"] for outcome in get_args(Outcome))


def asked(curl: str, token: str) -> tuple[str, str, dict[str, str], str | None]:
    """Return method, path, headers and body of a curl command line."""
    shell = curl.replace("$T", f"Authorization: Bearer {token}").replace("$S", "http://service")
    method, path, headers, body = "GET", "", {}, None
    words = iter(shlex.split(shell)[1:])
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        else:
            path = word.removeprefix("http://service")
    return method, path, headers, body
