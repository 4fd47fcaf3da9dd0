"""The page in a real browser: what each view shows, who may do what, and what it does when little or nothing is there."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from browser import CHROMIUM, DRIVER, Browser
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from sites import NOW, OFFICE_NOW, ROOT, furnish, office_config, open_rc, two_node_config, web

from building.errors import BadReadingError
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
LIBRARY = ROOT / "service" / "dashboard" / "lib" / "uplot.js"
VIEWS = ["now", "plan", "trade-offs", "fit", "savings", "what-if", "points"]
HOSTILE = "<img src=x onerror=document.title='owned'>"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium with chromedriver on the PATH"),
    pytest.mark.skipif(not LIBRARY.is_file(), reason="the chart library was not fetched: python hatch_build.py"),
]


def served(service: Service):
    with web(create_api(service.sources())) as url:
        yield url
    service.answering.stop()
    service.store.close()


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A furnished office in mode advise, told a hostile topic."""
    service = Service(office_config(tmp_path_factory.mktemp("page"), publish__mode="advise"), TurnedClock(OFFICE_NOW))
    furnish(service.store, service.config)
    service.store.add_readings([], [BadReadingError(reason="unknown_topic", topic=HOSTILE, detail="<script>")], OFFICE_NOW)
    return service


@pytest.fixture(scope="module")
def tokens(office):
    return {role: make_token(office.config.api.token_file, role) for role in ("viewer", "operator")}


@pytest.fixture(scope="module")
def url(office):
    yield from served(office)


@pytest.fixture(scope="module")
def window(url, tokens):
    browser = Browser(url, tokens["operator"])
    yield browser
    browser.close()


@pytest.fixture
def page(window, tokens):
    window.plain()
    window.signed_in(tokens["operator"])
    window.complaints()
    return window


def answers(script: str) -> str:
    """Return a script that puts `script`'s answers before the service's: it sees `path` and may return a body or null."""
    return f"""
    const real = window.fetch;
    window.fetch = async (path, told) => {{
      const body = (() => {{ {script} }})();
      return body === undefined ? real(path, told) : new Response(JSON.stringify(body), {{ status: body === null ? 404 : 200 }});
    }};"""


# -- for everybody


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core was not fetched: python hatch_build.py")
@pytest.mark.parametrize(("width", "is_dark"), [(1280, False), (360, True)], ids=["screen-light", "phone-dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_no_serious_issue(page, view: str, width: int, is_dark: bool) -> None:
    page.sized(width, 800, is_dark)
    page.open(view)
    if view == "what-if":
        page.until(lambda: "Answered in" in page.text(), "an answer")
    page.js(AXE.read_text(encoding="utf-8"))
    found = page.driver.execute_async_script("axe.run(document).then(arguments[0])")
    bad = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    told = [f"{v['id']}: {n['html'][:200]} {n['failureSummary'][:300]}" for v in bad for n in v["nodes"][:3]]
    assert not told, "\n".join(told)
    assert len(found["passes"]) > 15


@pytest.mark.parametrize("width", [360, 1280, 1920])
def test_no_view_is_wider_than_the_screen(page, width: int) -> None:
    page.sized(width)
    for view in VIEWS:
        page.open(view)
        assert page.js("return document.documentElement.scrollWidth") <= width, view


def test_views_complain_of_nothing_and_ask_no_outside_host(page) -> None:
    for view in VIEWS:
        page.open(view)
        assert page.text("#problem") == "", view
        asked = page.js("return performance.getEntriesByType('resource').map((e) => e.name)")
        assert asked and all(a.startswith(page.url) for a in asked)
    assert page.complaints() == []


def test_first_view_transfers_little(page) -> None:
    for view in VIEWS:
        page.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        page.open(view)
        sizes = page.js("return performance.getEntries().map((e) => e.transferSize || 0)")
        assert 50_000 < sum(sizes) < 1_500_000, view


def test_hostile_topic_is_shown_as_text(page) -> None:
    for view in ("now", "points"):
        page.open(view)
        assert HOSTILE in page.text() and "<script>" in page.text()
        assert page.all("img, #view script") == [] and "owned" not in page.driver.title


def test_views_are_reached_by_the_keyboard_and_named_in_the_title(page) -> None:
    page.open("now")
    page.one("nav a[href='#fit']").send_keys(Keys.ENTER)
    page.shows("fit")
    assert page.driver.title == "Fit – DOE reference medium office, new construction 2004"
    assert page.one("nav a[aria-current]").text == "Fit"


def test_chart_is_read_by_arrow_keys_and_as_a_table(page) -> None:
    page.open("plan")
    plot = page.until(lambda: page.all(".plot"), "a chart")[0]
    assert "Heating and cooling setpoints" in plot.get_attribute("aria-label")
    plot.send_keys(Keys.HOME)
    assert "heating, plan 1" in page.text(".chart [role=status]")
    page.one(".as-table summary").click()
    page.until(lambda: len(page.all(".as-table tbody tr")) >= 168, "the values")


# -- the views


def test_now_shows_every_zone_setpoint_and_part(page, office) -> None:
    page.open("now")
    assert len(page.all(".zones li")) == 15 and "Of 15 zones" in page.text()
    said = page.text()
    assert "Heating setpoint" in said and "by the plan; not sent in this mode" in said and "broker away" in page.text("header")
    assert "perimeter mid zn 3 CO₂: no reading, never" in said, "its sensor is dead"
    assert all(name in said for name in ("store", "calibration", "backup"))
    page.one("[aria-label='Find a zone']").send_keys("core")
    assert len(page.all(".zones li")) == 3


def test_plan_shows_the_week_against_the_own_schedule_and_why(page) -> None:
    page.open("plan")
    said = page.text()
    assert "Energy saved" in said and "It waits for a person" in said and "Rule: no worse" in said
    page.until(lambda: len(page.all("#view canvas")) >= 4, "charts of the settings")
    assert "own schedule" in page.text(".chart .legend") and "outdoor air temperature: forecast" in said


def test_viewer_sees_no_button_that_would_be_refused(page, tokens) -> None:
    page.signed_in(tokens["viewer"])
    for view in VIEWS:
        page.open(view)
        if view != "what-if":
            assert set(page.buttons()) <= {"Show"}, view
    page.open("what-if")
    page.until(lambda: "Answered in" in page.text(), "an answer: asking changes nothing, so a viewer may")


def test_operator_confirms_a_plan_with_a_reason(page, office) -> None:
    page.open("plan")
    page.button("Confirm this plan").click()
    page.one("#reason-why").send_keys("looked at it")
    page.button("Do it").click()
    page.until(lambda: "is confirmed" in page.text("#done"), "the confirmation")
    plan = office.store.plan_in_force(OFFICE_NOW)
    assert office.sources().told().confirmed_plan == plan.id
    page.until(lambda: "Confirm this plan" not in page.buttons() and "Withdraw it" in page.buttons(), "the plan to be confirmed")


def test_dialog_that_is_left_does_nothing(page, office) -> None:
    page.open("plan")
    before = office.store.plan_in_force(OFFICE_NOW).id
    page.button("Withdraw it").click()
    page.button("Leave it").click()
    page.until(lambda: not page.one("#reason").is_displayed(), "the dialog to close")
    assert office.store.plan_in_force(OFFICE_NOW).id == before


def test_operator_holds_a_setting_and_frees_it_again(page, office) -> None:
    page.open("plan")
    form = page.one("[aria-label='Hold a setting']")
    value, why = form.find_elements("css selector", "input")
    value.clear()
    value.send_keys("21.5")
    why.send_keys("council meeting")
    page.button("Hold it").click()
    page.until(lambda: "is held until" in page.text("#done"), "the override")
    held = office.sources().told().in_force(OFFICE_NOW)["heating_setpoint"]
    assert (
        held.value == pytest.approx(21.5)
        and held.reason == "council meeting"
        and held.until == OFFICE_NOW + pd.Timedelta(hours=2)
    )
    page.until(lambda: "End it" in page.buttons(), "the override in the list")
    page.button("End it").click()
    page.one("#reason-why").send_keys("meeting is over")
    page.button("Do it").click()
    page.until(lambda: "is free again" in page.text("#done"), "its end")
    assert office.sources().told().in_force(OFFICE_NOW) == {}


def test_refused_override_says_why_and_changes_nothing(page, office) -> None:
    page.open("plan")
    page.js("document.querySelector('[aria-label=\"Hold a setting\"]').noValidate = true")
    value, why = page.one("[aria-label='Hold a setting']").find_elements("css selector", "input")
    value.clear()
    value.send_keys("99")
    why.send_keys("too hot on purpose")
    page.button("Hold it").click()
    page.until(lambda: "99" in page.text("#problem"), "the refusal")
    assert office.sources().told().in_force(OFFICE_NOW) == {}


def test_point_of_the_front_is_chosen_by_keyboard_and_shows_its_plan(page) -> None:
    page.open("trade-offs")
    page.until(lambda: "chosen by the service" in page.text("#view .card:last-child"), "the chosen plan")
    first = page.one("circle[tabindex='0']")
    page.js("arguments[0].focus()", first)
    ActionChains(page.driver).send_keys(Keys.ARROW_RIGHT, Keys.ENTER).perform()
    focused = page.until(
        lambda: page.js("return document.activeElement.getAttribute('aria-pressed') === 'true' && document.activeElement"),
        "choice",
    )
    title = focused.get_attribute("aria-label").partition(":")[0]
    number = title.split()[-1]
    if title != "Chosen plan":
        page.until(lambda: f"Plan {number}" in page.text("#view .card:last-child"), "the plan of the point")
    assert page.button("Change it in What if").get_attribute("href").startswith(f"{page.url}/#what-if?base=front&point=")
    assert len(page.all("circle.selected")) == 2, "in both panels"


def test_fit_shows_verdict_band_and_what_is_not_identifiable(page) -> None:
    page.open("fit")
    said = page.text()
    assert "Accepted" in said and "Guideline 14" in said and "passes" in said
    assert "9 hours of 10 expected here" in said and "of them inside the band" in said
    assert "Infiltration" in said and ("Not identifiable" in said or "Every parameter is identified" in said)
    page.choose("#view select", "core_mid_co2")
    page.until(lambda: "Core mid CO₂" in page.text(".chart-title"), "another variable")


def test_slider_and_drag_change_the_week_and_a_figure_answers(page) -> None:
    page.open("what-if")
    page.until(lambda: "Answered in" in page.text(), "the first answer")
    energy = lambda: page.text("#view tbody tr:first-child td:nth-last-child(2)")
    same = energy()
    slider = page.one("input[type=range]")
    for _ in range(10):
        slider.send_keys(Keys.ARROW_LEFT)
    page.until(lambda: (energy() != same and "−1 K" in page.text(".amount")) or "-1 K" in page.text(".amount"), "a colder week")
    page.until(lambda: energy() != same, "its figures")
    assert float(energy().replace(",", "")) < float(same.replace(",", ""))
    page.drag(".plot .u-over.draggable", -30)
    page.until(lambda: "−1 K" not in page.text(".amount"), "the slider to follow the line")
    page.button("Start again").click()
    page.until(lambda: energy() == same, "the first week again")


def test_what_if_of_a_front_point_starts_from_it_and_says_what_the_guard_does(page) -> None:
    page.open("what-if?base=front&point=0")
    page.until(lambda: "Answered in" in page.text(), "an answer")
    assert page.one("#view select").get_attribute("value") == "front:0"
    page.choose("#view .row:nth-of-type(1) label:nth-child(2) select", "system_on")
    page.choose("#view .row:nth-of-type(1) label:nth-child(6) select", "value")
    page.js("const s = document.querySelector('input[type=range]'); s.value = 0; s.dispatchEvent(new Event('input'))")
    page.until(lambda: "The guard would change system on" in page.text(), "the guard's word")


def test_points_are_found_by_name_kind_and_state(page) -> None:
    page.open("points")
    assert len(page.all("#view .card:first-child tbody tr")) == 52
    page.one("input[type=search]").send_keys("co2 core")
    assert len(page.all("#view .card:first-child tbody tr")) == 3
    page.one("input[type=search]").clear()
    page.choose("#view label:nth-child(3) select", "never")
    page.until(lambda: len(page.all("#view .card:first-child tbody tr")) == 1, "the dead sensor")
    assert "perimeter_mid_zn_3_co2" in page.text("#view .card:first-child tbody")


def report(days: int) -> dict:
    """What /v1/savings answers after a trial of so many days."""
    arm = {"energy_kwh": 700.0, "outdoor_air_temperature": 2.0, "discomfort": 0.1, "co2_excess": 0.0, "co2": 780.0}
    every = [
        {
            "day": str((OFFICE_NOW - pd.Timedelta(days=days - n)).date()),
            "side": "plan" if n % 3 else "own",
            "energy_kwh": 700.0 + 40 * (n % 5) - 180 * bool(n % 3),
            "expected_kwh": 760.0 + 20 * (n % 4),
            "outdoor_air_temperature": 2.0,
            "left_out": "a gap in the meters" if n == 4 else None,
        }
        for n in range(days)
    ]
    figures = {"baseline_kwh": 15000, "reported_kwh": 11800, "saved_kwh": 3200, "saved_low_kwh": 2400, "saved_high_kwh": 4000}
    shares = {"saving": 0.213, "low": 0.16, "high": 0.267, "cv_rmse": 0.061, "confidence": 0.9}
    words = {"source": "switchback, Guideline 14", "said": "the plan saved 21 %", "energy": "HVAC, final"}
    counts = {"is_enough": True, "n_own": 9, "n_plan": 19, "least_days": 7, "is_shown": True, "is_model_based": False}
    made = {"made": str(OFFICE_NOW), "method": "switchback", "left_out": {"a gap in the meters": 1}, "days": every}
    trial = {
        "block": "day",
        "start": "2026-02-02",
        "end": "2026-03-01",
        "seed": 1,
        "washout_h": 3,
        "state": "over",
        "today": None,
    }
    whole = {**made, **counts, **words, **shares, **figures, "arms": {"plan": arm, "own": {**arm, "energy_kwh": 880.0}}}
    return {
        "trial": {**trial, "today": None, "day": None, "n_days": days},
        "report": whole,
        "next": "The trial ended on 2026-03-01.",
    }


def test_savings_show_the_interval_both_sides_and_every_day(page) -> None:
    page.before_load(answers(f"return path === '/v1/savings' ? {json.dumps(report(28))} : undefined;"))
    page.open("savings")
    said = page.text()
    assert "21.3 %" in said and "16.0 % to 26.7 % at 90.0 % confidence" in said and "19 + 9" in said
    assert "Shown by ASHRAE Guideline 14" in said and "Left out: 1 day, a gap in the meters" in said
    page.until(lambda: len(page.all("#view canvas")) == 1, "a chart of the days")
    assert page.text("#problem") == ""


# -- little or nothing


def test_without_a_token_there_is_the_form_and_nothing_else(page) -> None:
    page.signed_in(None)
    page.driver.get(f"{page.url}/")
    page.until(lambda: page.one("#sign-in").is_displayed(), "the form")
    assert not page.one("#views").is_displayed() and page.text("#view") == ""


def test_wrong_token_says_so_and_the_right_one_opens(page, tokens) -> None:
    page.signed_in("wrong")
    page.driver.get(f"{page.url}/#plan")
    page.until(lambda: "token is wrong" in page.text("#sign-in-error"), "the word of the service")
    page.one("#token").send_keys(tokens["viewer"])
    page.one("#sign-in button").click()
    page.shows("plan")
    assert "viewer" in page.text("#who")


def test_fresh_service_without_readings_plan_or_calibration_shows_every_view(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, api__is_open="true"), TurnedClock(NOW), open_rc)
    serving = served(service)
    browser = Browser(next(serving), None)
    words = {
        "now": "without a fresh reading", "plan": "No plan yet", "trade-offs": "No search has run yet",
        "fit": "No calibration yet",
        "savings": "Nothing is proven yet", "what-if": "0 good hours", "points": "never",
    }  # fmt: skip
    try:
        for view, wanted in words.items():
            browser.open(view)
            browser.until(lambda wanted=wanted: wanted in browser.text(), f"{wanted} on {view}")
            assert browser.text("#problem") == "", view
        assert browser.complaints() == []
    finally:
        browser.close()
        next(serving, None)


def test_every_answer_missing_leaves_views_that_say_so(page) -> None:
    page.before_load(answers("return /v1\\/(status|me)$/.test(path) ? undefined : null;"))
    for view in VIEWS:
        page.open(view)
        assert page.text("#problem") == "", view
    assert page.complaints() == []


def test_hundreds_of_zones_with_long_names_fit_a_phone(page) -> None:
    zone = {"air_temperature": 21.0, "co2": 700, "stamp": None, "low": 20, "high": 24, "state": "ok"}
    zones = [{**zone, "zone": f"{'very_long_name_of_a_wing_' * 4}{i}"} for i in range(400)]
    zones[399] |= {"air_temperature": 18.0, "state": "cold"}
    body = json.dumps({"now": "2026-03-03T16:10Z", "is_occupied": True, "outdoor_running_mean_known": True, "zones": zones})
    page.before_load(answers(f"return path === '/v1/zones' ? {body} : undefined;"))
    page.sized(360)
    page.open("now")
    assert "340 more" in page.text() and page.text(".zones li .name").endswith("399"), "the worst zone comes first"
    assert page.js("return document.documentElement.scrollWidth") <= 360


def test_lost_service_is_said_and_forgotten_once_it_is_back(page) -> None:
    page.open("now")
    page.online(False)
    page.js("location.hash = '#points'")
    page.until(lambda: "does not answer" in page.text("#problem"), "the word")
    page.online(True)
    page.js("location.hash = '#now'")
    page.until(lambda: page.text("#problem") == "", "silence")


def test_without_the_chart_library_the_values_stand_in_tables(page) -> None:
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/lib/uplot.js"]})
    page.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    page.open("plan")
    page.until(lambda: len(page.all(".as-table[open] tbody tr")) >= 168, "a table")
    assert "chart library is missing" in page.text()


def test_pictures_of_the_docs_are_there_and_small() -> None:
    kept = sorted((Path(ROOT) / "docs" / "images").glob("page-*.png"))
    assert len(kept) >= 7 and all(p.stat().st_size < 400_000 for p in kept)
