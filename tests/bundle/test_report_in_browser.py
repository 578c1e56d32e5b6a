"""Reports as a real browser shows them: nothing on its console, no sideways scrolling, no barriers, keys that work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report import whole

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="there is no chromedriver"),
]
WIDTHS = (360, 800, 1400)
AXE = os.environ.get("SECATEUR_AXE", "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    started = webdriver.Chrome(options, service)
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(whole(), "utf-8")
    return file


def opened(browser: Any, page: Path, width: int, scheme: str = "light") -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})  # fmt: skip
    wanted = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
    browser.get(page.as_uri())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_and_says_nothing_on_the_console(browser: Any, page: Path, width: int, scheme: str) -> None:
    opened(browser, page, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert browser.get_log("browser") == []
    if AXE:
        browser.execute_script(Path(AXE).read_text("utf-8"))
        found = browser.execute_async_script("const done = arguments[0]; axe.run().then(r => done(r.violations))")
        assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


def test_a_width_that_has_the_focus_is_told_beside_the_picture(browser: Any, page: Path) -> None:
    opened(browser, page, 1400)
    browser.execute_script("document.querySelector('.strand').focus()")
    panel = browser.find_element("css selector", ".graph .panel")
    assert panel.is_displayed() and "read by fc" in panel.text
    assert len(browser.find_elements("css selector", ".graph .row.shown")) == 2
    browser.execute_script("document.activeElement.dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert browser.execute_script("return location.hash") == "#width-0"


def test_lines_stand_side_by_side_and_on_a_phone_one_below_the_other(browser: Any, page: Path) -> None:
    tops = """const line = [...document.querySelectorAll('.diff .line')].find(x => x.querySelector('ins'));
    return [...line.children].map(side => side.getBoundingClientRect().top)"""
    opened(browser, page, 1400)
    before, after = browser.execute_script(tops)
    assert before == after
    opened(browser, page, 360)
    before, after = browser.execute_script(tops)
    assert before < after


def test_a_copy_button_is_there_and_tells_what_it_did(browser: Any, page: Path) -> None:
    opened(browser, page, 800)
    button = browser.find_element("css selector", "button[data-copy=load]")
    assert button.is_displayed()
    button.click()
    told = "return document.querySelector('button[data-copy=load]').textContent"
    for _ in range(50):
        if (said := browser.execute_script(told)) != "Copy":
            break
    assert said in ("Copied", "Selected")
