"""One headless Chromium that can reach no host but loopback, and a record of its activity.

Every network request, every policy report and every script error is kept, so that a test can check that there were
none. Needs Debian's `chromium` and `chromium-driver`; see `missing`.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.process import ROOT

__all__ = ["AXE", "Browser", "chromium", "missing", "refuse"]

AXE = ROOT / "tests" / "sdk" / "node" / "node_modules" / "axe-core" / "axe.min.js"
"""axe-core, from the tests' Node package: `make sdks` installs it."""

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--lang=en-US",
    "--window-size=1400,900",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_LOCAL = ("127.0.0.1", None)  # None: file:, data:, blob:, about:
# Runs before any script of a page: forbidden effects are counted, and leaving the page is detected.
_WATCH = """
window.__ran = [];
for (const name of ['alert', 'open', 'print', 'pwned'])
  window[name] = (...args) => { window.__ran.push(name + args); };
window.__reports = [];
addEventListener('securitypolicyviolation', e => window.__reports.push(e.effectiveDirective + ' ' + e.blockedURI));
window.__errors = [];
addEventListener('error', e => window.__errors.push(String(e.message)));
addEventListener('unhandledrejection', e => window.__errors.push(String(e.reason)));
"""


def missing() -> str | None:
    """Return what this machine lacks for these tests, or None."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


def refuse(what: str) -> None:
    """Skip with the reason; under CI, where everything is installed, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI tests everything")
    pytest.skip(what)


class Browser:
    """A driver with access to Chromium's own protocol."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._asked: list[str] = []
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)

    def cdp(self, method: str, **params: Any) -> Any:
        """Send one command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(method, params)

    def asked(self) -> list[str]:
        """Return every address that was requested since `forget`, in order."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._asked.append(message["params"]["request"]["url"])
        return list(self._asked)

    def foreign_addresses(self) -> list[str]:
        """Return the requested addresses that are not on this machine."""
        return [url for url in self.asked() if urlsplit(url).hostname not in _LOCAL]

    def forget(self) -> None:
        """Forget the requested addresses."""
        self.asked()
        self._asked.clear()


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start it with an empty profile in that folder; end it at the end. Raises the errors of selenium."""
    from selenium import webdriver  # a skip, not an import error, where it is missing

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_experimental_option(
        "prefs",
        {"download.default_directory": str(profile / "downloads"), "download.prompt_for_download": False},
    )
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
