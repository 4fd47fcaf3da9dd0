"""The page's files: from our own host only, no markup from data; and the client, which speaks to the same server."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sites import NOW, fill, lived, open_rc, two_node_config, web

from building.errors import ApiError
from service import operations
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.client import Client
from service.clock import TurnedClock

PAGE = Path(__file__).parent.parent.parent / "service" / "dashboard"
ASSETS = sorted(p for p in PAGE.rglob("*") if p.is_file() and "lib" not in p.parts)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    service = Service(two_node_config(tmp_path_factory.mktemp("page")), TurnedClock(NOW), open_rc)
    fill(service.store, lived(hours=240))
    result = operations.replan(service.store, service.building, open_rc(service.config), service.config, NOW, 16, 4)
    operations.enter_plan(service.store, service.store.start_job("plan", NOW), result, NOW)
    yield service
    service.store.close()


@pytest.fixture(scope="module")
def token(service) -> str:
    return make_token(service.config.api.token_file)


@pytest.fixture(scope="module")
def url(service):
    with web(create_api(service.sources())) as url:
        yield url


@pytest.mark.parametrize("asset", ASSETS, ids=lambda p: p.name)
def test_page_asks_no_outside_host_and_makes_no_markup_from_data(asset: Path) -> None:
    text = asset.read_text()
    hosts = set(re.findall(r"(?:https?:)?//([\w.-]+\.\w+)", text)) - {"www.w3.org"}  # the name of SVG, not an address
    assert not hosts
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_page_and_its_files_are_served_without_token_and_under_a_strict_policy(service, token) -> None:
    client = TestClient(create_api(service.sources()))
    page = client.get("/")
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    for asset in re.findall(r'(?:src|href)="(/dashboard/[^"]+)"', page.text):
        if "/lib/" in asset and not (PAGE / "lib").is_dir():
            continue  # a checkout whose chart library could not be fetched; the page shows tables then
        assert client.get(asset).status_code == 200, asset
    assert "<script>" not in page.text and "onclick" not in page.text


# -- the client speaks to the same server


def test_client_reads_series_as_a_frame(url, token) -> None:
    client = Client(url, token)
    frame = client.series(["zone_co2", "system_on"], end=NOW.floor("h"))
    assert list(frame) == ["zone_co2", "system_on"] and len(frame) == 168 and frame.notna().all().all()
    assert client.get("plan")["is_in_force"]


def test_client_gives_a_forecast_and_reads_it_back(url, token) -> None:
    client = Client(url, token)
    hours = pd.date_range(NOW.floor("h") + pd.Timedelta(hours=1), periods=3, freq="h")
    client.add_forecast(pd.DataFrame({"outdoor_air_temperature": [1.0, 2.0, 3.0]}, index=hours), NOW)
    frame = client.series(["outdoor_air_temperature"], hours[0], hours[-1] + pd.Timedelta(hours=1), kind="predicted")
    assert frame["outdoor_air_temperature"].tolist() == [1.0, 2.0, 3.0]


def test_client_says_what_the_service_said(url, token) -> None:
    with pytest.raises(ApiError, match="401.*token is wrong"):
        Client(url, "wrong").get("status")
    with pytest.raises(ApiError, match="404.*Did you mean 'zone_co2'"):
        Client(url, token).series(["zone_co3"])
    with pytest.raises(ApiError, match="Is the service running"):
        Client("http://127.0.0.1:9", token).get("status")
