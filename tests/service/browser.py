"""A real headless Chromium on a page of ours: Debian's chromium with its chromedriver, driven by selenium."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
TOKEN_KEY = "setwise-token"
PATIENCE_S = 90.0
"""A busy machine takes its time; a test fails by what it sees, not by when."""


class Browser:
    """One window. `open` shows a view of the page and waits until it is drawn."""

    def __init__(self, url: str, token: str | None) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        self.driver.set_script_timeout(PATIENCE_S)
        self.url = url
        self._scripts: list[str] = []
        self.sized(1280, 900)
        self.signed_in(token)

    def close(self) -> None:
        """End it."""
        self.driver.quit()

    def sized(self, width: int, height: int = 900, is_dark: bool = False) -> None:
        """Become a screen of that size and taste."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        taste = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [taste]})

    def signed_in(self, token: str | None) -> None:
        """Keep a token as the page does, or none."""
        self.driver.get(f"{self.url}/dashboard/icon.svg")
        self.js("arguments[0] ? localStorage.setItem(arguments[1], arguments[0]) : localStorage.clear()", token, TOKEN_KEY)

    def before_load(self, script: str) -> None:
        """Run a script before the page's own at every load, until `plain`."""
        said = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        self._scripts.append(said["identifier"])

    def plain(self) -> None:
        """Undo `before_load`, `sized` and a lost network."""
        for one in self._scripts:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": one})
        self._scripts.clear()
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
        self.online(True)
        self.sized(1280, 900)

    def online(self, is_online: bool) -> None:
        """Cut the network, or mend it."""
        told = {"offline": not is_online, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", told)

    def open(self, view: str) -> None:
        """Load the page at a view and wait until that is drawn."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/#{view}")
        self.shows(view.partition("?")[0])

    def shows(self, view: str) -> None:
        """Wait until a view is drawn."""
        self.until(lambda: self.js("return document.getElementById('view')?.dataset.shown") == view, f"view {view}")

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something holds, and return it."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            found = holds()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited {PATIENCE_S:g} s for {what}; the page says: {self.text('main')[:2000]}")

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """Return the first of them."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def button(self, text: str) -> WebElement:
        """Return the button or link-button with that text."""
        return self.driver.find_element(By.XPATH, f"//button[normalize-space()='{text}'] | //a[normalize-space()='{text}']")

    def buttons(self) -> list[str]:
        """Return the texts of the buttons that can be seen in the view."""
        script = (
            "return [...document.querySelectorAll('#view button')].filter((b) => b.checkVisibility()).map((b) => b.textContent)"
        )
        return list(self.js(script))

    def text(self, selector: str = "#view") -> str:
        """Return the text of an element, hidden words included."""
        return str(self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def complaints(self) -> list[str]:
        """Return errors on the console since the last look: broken scripts, broken policy."""
        return [
            e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE" and "status of 4" not in e["message"]
        ]

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select, as a person does."""
        self.js("const s = arguments[0]; s.value = arguments[1]; s.dispatchEvent(new Event('change'))", self.one(selector), value)

    def drag(self, selector: str, down_px: int) -> None:
        """Take something by its middle and drag it down (up), again where it was drawn anew meanwhile."""
        for _ in range(5):
            try:
                found = self.one(selector)
                self.js("arguments[0].scrollIntoView({block: 'center'})", found)
                ActionChains(self.driver).click_and_hold(found).move_by_offset(0, down_px).release().perform()
                return
            except StaleElementReferenceException:
                time.sleep(0.5)
        raise AssertionError(f"{selector} never stands still")

    def picture(self, file: Path, most_px: int = 2400) -> None:
        """Keep a picture of the whole page."""
        high = min(most_px, int(self.js("return document.documentElement.scrollHeight")))
        clip = {"x": 0, "y": 0, "width": self.js("return innerWidth"), "height": high, "scale": 1}
        said = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        file.write_bytes(base64.b64decode(said["data"]))
