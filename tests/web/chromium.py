"""A headless Chromium, Debian's, that a test drives with Selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.web.serving import ROOT

PICTURES = ROOT / "docs" / "images"
_PATIENCE = 60  # seconds, on a machine that others use


class Browser:
    """A page as a person sees it.

    Attributes:
        driver: Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def size(self, width: int, height: int, *, whole: bool = False) -> None:
        """Set the size of the window; a whole page is as high as what is in it."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        if whole:
            self.size(width, self.js("return document.documentElement.scrollHeight"))

    def open(self, address: str) -> None:
        """Open an address, to the end of loading."""
        self.driver.get(address)

    def js(self, script: str, *values: Any) -> Any:
        """The value of a script."""
        return self.driver.execute_script(script, *values)

    def one(self, selector: str) -> Any:
        """The element of a selector."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        """The elements of a selector."""
        return list(self.driver.find_elements("css selector", selector))

    def text(self, selector: str = "#answer") -> str:
        """The text that an element shows."""
        return str(self.one(selector).text)

    def type(self, selector: str, words: str) -> None:
        """Write into a field what a person would, key by key, in place of what is there."""
        field = self.one(selector)
        field.send_keys("\ue009a\ue000" if field.get_attribute("value") else "", words)  # control and a

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list."""
        from selenium.webdriver.support.select import Select

        Select(self.one(selector)).select_by_value(value)

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something holds."""
        from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
        from selenium.webdriver.support.wait import WebDriverWait

        waiting = WebDriverWait(
            self.driver, _PATIENCE, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException]
        )
        try:
            waiting.until(lambda _: holds())
        except TimeoutException:
            raise AssertionError(f"not after {_PATIENCE} s: {what}\n{self.text('body')}") from None

    def shows(self, words: str) -> None:
        """Wait until the answer shows words."""
        self.until(lambda: words in self.text(), words)

    def fits_the_width(self) -> bool:
        """Whether nothing has to be scrolled sideways, and nothing stands beyond the edge."""
        return bool(
            self.js(
                "return document.documentElement.scrollWidth <= innerWidth && [...document.querySelectorAll("
                "'header *, form *, #answer > *, #answer p, #answer h2, #answer svg, footer *')].every("
                "each => each.getBoundingClientRect().right <= innerWidth + 1)"
            )
        )

    def complaints(self) -> list[str]:
        """What the browser's console holds: errors of scripts, what was not found, what the page may not load."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def picture(self, name: str) -> None:
        """Keep a picture for the documents, where asked for."""
        taken = self.driver.get_screenshot_as_png()
        assert len(taken) > 5000, "nothing is to be seen"
        if os.environ.get("HFMEM_UPDATE_GOLDEN"):
            PICTURES.mkdir(exist_ok=True)
            (PICTURES / f"{name}.png").write_bytes(smaller(taken))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install '.[browser]'")
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in found:
        pytest.skip("apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={folder}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found[1]))
    driver.set_script_timeout(4 * _PATIENCE)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def smaller(png: bytes) -> bytes:
    """A picture in 256 colours, a third as large: the page has few."""
    from PIL import Image  # Gradio needs it too

    packed = BytesIO()
    whole = Image.open(BytesIO(png)).convert("RGB")
    # an octree keeps the few pure colours that a median of all pixels loses among the greys of text
    few = whole.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(packed, "PNG", optimize=True)
    return packed.getvalue()
