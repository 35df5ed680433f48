"""A whole cloud and Debian's Chromium, driven by Playwright. No browser is downloaded.

``--screenshots DIR``: the tests also take the pictures of the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser_kit import CHROMIUM, Desk, Screen
from tests.cloud import Cloud, cloud


@pytest.fixture(scope="package")
def running() -> Iterator[Cloud]:
    """A cloud of two simulated nodes with an image."""
    with cloud(simulate=2) as made:
        made.image()
        yield made


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests here; each has a profile of its own. It ends with them: as long as it is there Playwright has an
    event loop in this thread, in which Django and asyncio refuse to work."""
    with sync_playwright() as driver:
        # Root, in namespaces of its own: Chromium's sandbox makes such ones itself and can not here.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def _desk(chromium: Browser) -> Desk:
    return Desk(chromium)


@pytest.fixture
def desk(_desk: Desk) -> Iterator[Desk]:
    """Windows; at the end none may have complained: no script failed, nothing was kept out by the content security policy."""
    yield _desk
    wrong = [each for screen in _desk.screens for each in screen.complaints()]
    _desk.leave()
    assert wrong == []


@pytest.fixture
def screen(desk: Desk, running: Cloud) -> Screen:
    """The administrator's laptop."""
    return desk.sit(running)


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Takes a picture for the documents where ``--screenshots`` asks for it."""
    folder = request.config.getoption("--screenshots")

    def take(page: Page, name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")

    return take
