"""A real Chromium without a window, for the tests of pages."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

NAMES = ("chromium", "chromium-browser", "google-chrome")


def open_browser() -> webdriver.Chrome:
    """A browser whose pages have the size of a screen; the caller quits it.

    In CI it must be there; elsewhere the test is skipped without it.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        reason = "needs Chromium and its driver: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    set_size(chrome, 1280, 900)
    return chrome


def set_size(chrome: webdriver.Chrome, width: int, height: int, *, dark: bool = False) -> None:
    """Gives the page this size, as a phone or a screen of it has, and the colour scheme that it asks for."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def complaints(chrome: webdriver.Chrome) -> list[str]:
    """What the page's console says since the last call: errors of scripts, refused requests, violated policies."""
    return [entry["message"] for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def wait(chrome: webdriver.Chrome, condition: Callable[[webdriver.Chrome], Any]) -> Any:
    """What the condition returns, once it is true.

    A page that is replaced takes its elements away between finding and reading them, with one of several errors.
    The condition is then asked again, so it must find what it reads itself.
    """
    return WebDriverWait(chrome, 20, 0.05, [WebDriverException]).until(condition, "the page did not change")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """One browser for all tests of a file: it takes seconds to start."""
    chrome = open_browser()
    yield chrome
    chrome.quit()
