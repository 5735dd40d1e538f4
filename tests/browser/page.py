"""MLflow's UI in a headless Chromium, as a person sees it."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    WebDriverException,
)
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

SECONDS = 60.0
SIZE = "1360,1000"
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    f"--window-size={SIZE}",
)  # fmt: skip


def missing() -> str | None:
    """What has to be installed before a page can be opened."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(absent)}; see scripts/setup-debian" if absent else None


class Page:
    """One window. Whatever is looked for is waited for."""

    def __init__(self, driver: Chrome, server: str, shots: Path) -> None:
        self.driver = driver
        self.server = server
        self.shots = shots

    def open(self, place: str) -> None:
        """Goes to `place`, what stands behind the server's address, without anything of the page before."""
        self.driver.get("about:blank")
        self.driver.get(self.server + place)

    @property
    def text(self) -> str:
        """All that can be read."""
        return str(self.driver.execute_script("return document.body ? document.body.innerText : ''"))

    def wait(self, what: str, condition: Callable[[], object], seconds: float = SECONDS) -> None:
        """Until `condition` holds; AssertionError, with the page's text and an image, where it doesn't."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except WebDriverException:
                pass  # what was found a moment ago was drawn anew
            time.sleep(0.1)
        self.shot("failed")
        raise AssertionError(f"not within {seconds} s: {what}\n{self.text}")

    def reads(self, *texts: str) -> None:
        """Waits until all texts can be read."""
        for text in texts:
            self.wait(f"the text {text!r}", lambda text=text: text in self.text)  # type: ignore[misc]

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def click(self, css: str, text: str = "") -> None:
        """Clicks on the first such element that has this text."""

        def clicked() -> bool:
            for element in self.all(css):
                if text in element.text:
                    self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
                    try:
                        element.click()
                    except (ElementClickInterceptedException, ElementNotInteractableException):
                        # MLflow's assistant floats over the page, and its tree of files has no size.
                        self.driver.execute_script("arguments[0].click()", element)
                    return True
            return False

        self.wait(f"{css} {text!r} to click on", clicked)

    def show(self, css: str, text: str = "") -> None:
        """Scrolls to the first such element."""

        def scrolled() -> bool:
            for element in self.all(css):
                if text in element.text:
                    self.driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", element)
                    return True
            return False

        self.wait(f"{css} {text!r} to scroll to", scrolled)

    def loaded_images(self) -> list[str]:
        """The addresses of the images that have arrived and are shown."""
        script = "return [...document.images].filter(i => i.complete && i.naturalWidth > 100).map(i => i.src)"
        return list(self.driver.execute_script(script))

    def close_assistant(self) -> None:
        """Gives the page the quarter of the window that MLflow's assistant takes in a fresh browser."""
        for close in self.all('button[aria-label="Close"]'):
            if close.is_displayed():
                self.driver.execute_script("arguments[0].click()", close)
                time.sleep(0.5)

    def shot(self, name: str) -> Path:
        """An image of the window, without MLflow's assistant."""
        self.close_assistant()
        self.shots.mkdir(parents=True, exist_ok=True)
        path = self.shots / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path


@contextmanager
def opened(server: str, shots: Path) -> Iterator[Page]:
    """A fresh browser that knows nothing of any page."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Page(driver, server, shots)
        finally:
            driver.quit()
