"""Every route times every role, taken from the OpenAPI document itself; and that document is the one kept in docs/."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sites import NOW, open_rc, two_node_config

from service.access import ROLES, create_token, make_token, revoke_token
from service.api import create_api, document
from service.app import Service
from service.clock import TurnedClock

OPEN = {("get", "/healthz"), ("get", "/readyz")}
"""What anybody may ask: is the process alive, is it ready."""
ADMIN = {("get", "/v1/tokens"), ("post", "/v1/tokens"), ("delete", "/v1/tokens/{token}"), ("get", "/v1/audit")}
ASKING = {("post", "/v1/what-if")}
"""A question too long for a query: it changes nothing, so a viewer may ask it."""
ROUTES = [(method, path, one) for path, methods in document()["paths"].items() for method, one in methods.items()]
CALLERS = ["none", "wrong", "expired", "revoked", *ROLES]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    service = Service(two_node_config(folder, api__failed_attempts="100000"), TurnedClock(NOW), open_rc)
    service.jobs.start = lambda *_: 1  # no child is started here
    file = folder / "token"
    headers = {"none": {}, "wrong": {"Authorization": "Bearer wrong"}}
    for role in ROLES:
        headers[role] = {"Authorization": f"Bearer {make_token(file, role)}"}
    expired = create_token(file, "expired", "admin", days=1, now=pd.Timestamp("2020-01-01T00:00Z"))[1]
    revoked = create_token(file, "revoked", "admin")[1]
    revoke_token(file, "revoked")
    headers |= {"expired": {"Authorization": f"Bearer {expired}"}, "revoked": {"Authorization": f"Bearer {revoked}"}}
    yield TestClient(create_api(service.sources()), raise_server_exceptions=False), headers
    service.store.close()


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("method", "path", "one"), ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_route_lets_in_the_roles_it_names_and_nobody_else(site, method: str, path: str, one: dict, caller: str) -> None:
    client, headers = site
    place = path
    for parameter in one.get("parameters", []):
        if parameter["in"] == "path":
            place = place.replace(f"{{{parameter['name']}}}", "999999")
    code = client.request(method, place, headers=headers[caller], json={} if method != "get" else None).status_code
    wanted = one.get("x-role")
    if wanted is None:
        assert code not in (401, 403)
    elif caller not in ROLES:
        assert code == 401
    elif ROLES.index(caller) < ROLES.index(wanted):
        assert code == 403
    else:
        assert code not in (401, 403, 429) and code < 500


def test_routes_name_the_least_role_that_makes_sense() -> None:
    for method, path, one in ROUTES:
        role = one.get("x-role")
        assert (role is None) == ((method, path) in OPEN), (method, path)
        if (method, path) in ADMIN:
            assert role == "admin", (method, path)
        elif method != "get" and (method, path) not in ASKING:
            assert role in ("operator", "admin"), (method, path)


def test_every_route_of_the_application_is_in_the_document_or_a_page(site) -> None:
    """So the matrix above forgets none: a route is in it, or is one of the pages, which are read only."""
    client, _ = site
    documented = {(method, path) for method, path, _ in ROUTES}
    pages = {("get", path) for path in ("/", "/docs", "/openapi.json", "/dashboard")}
    served = {
        (method.lower(), getattr(r, "path", ""))
        for r in client.app.routes
        for method in (getattr(r, "methods", None) or {"GET"}) - {"HEAD"}
    }
    assert served - documented - pages == set() and documented <= served


def test_openapi_document_in_docs_is_the_one_that_is_served() -> None:
    kept = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
    assert json.loads(kept.read_text()) == json.loads(json.dumps(document())), "run: python docs/generate.py openapi"


def test_open_service_lets_readers_and_operators_in_but_no_admin(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, api__is_open="true"), TurnedClock(NOW), open_rc)
    client = TestClient(create_api(service.sources()))
    assert client.get("/v1/me").json() == {"name": "open", "role": "operator"}
    assert client.get("/v1/tokens").status_code == 403
    admin = make_token(tmp_path / "token")
    assert client.get("/v1/tokens", headers={"Authorization": f"Bearer {admin}"}).status_code == 200
    service.store.close()


def test_wrong_tokens_are_answered_429_with_the_time_to_wait(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, api__failed_attempts="3"), TurnedClock(NOW), open_rc)
    token = make_token(tmp_path / "token")
    client = TestClient(create_api(service.sources()))
    codes = [client.get("/v1/me", headers={"Authorization": f"Bearer wrong{i}"}).status_code for i in range(6)]
    assert codes == [401, 401, 401, 401, 429, 429]
    answer = client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"] == "TooManyAttemptsError" and "wrong tokens came from" in answer.json()["message"]
    service.store.close()


def test_requests_without_a_token_make_nobody_wait(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, api__failed_attempts="1"), TurnedClock(NOW), open_rc)
    make_token(tmp_path / "token")
    client = TestClient(create_api(service.sources()))
    assert {client.get("/v1/me").status_code for _ in range(20)} == {401}
    service.store.close()


def test_every_test_that_the_security_page_names_exists() -> None:
    here = Path(__file__).parent
    page = (here.parents[1] / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:\.\./)?(?:\w+/)?test_\w+\.py)::(test_\w+)`", page)
    assert len(named) > 30
    assert [n for n in named if f"def {n[1]}(" not in (here / n[0]).read_text(encoding="utf-8")] == []
