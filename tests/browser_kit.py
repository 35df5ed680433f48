"""A person at a browser, for tests of the pages: windows that are logged in, and what goes wrong in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page

from tests.cloud import Cloud
from vmcloud.domain.vocabulary import Observed
from workers.drivers.simulated import outside

CHROMIUM = "/usr/bin/chromium"
LAPTOP, PHONE = (1280, 800), (390, 844)
SOON = 5000
"""Milliseconds that a page may take to follow: the machine runs other things. How long it takes is measured by a benchmark."""


@dataclass
class Screen:
    """A browser's window at one cloud, and what went wrong in it."""

    page: Page
    cloud: Cloud
    wrong: list[str] = field(default_factory=list)
    forgiven: tuple[str, ...] = ()
    """Words of complaints that the test itself brings about."""

    def complaints(self) -> list[str]:
        """What went wrong and was not meant to."""
        return [each for each in self.wrong if not any(words in each for words in self.forgiven)]

    def open(self, path: str) -> Page:
        """Go to a page of the admin, and wait until it follows."""
        self.page.goto(f"{self.cloud.url}/admin/{path}")
        if self.page.locator("#live").count():
            self.page.locator("#live[data-state=live]").wait_for(timeout=SOON)
        return self.page

    def ve(self, name: str) -> Page:
        """The page of a VE."""
        return self.open(f"fleet/ve/{self.cloud.ves()[name]['id']}/change/")

    def row(self, name: str) -> Locator:
        """A VE's row in the list that is open."""
        return self.page.locator(f"#row-{self.cloud.ves()[name]['id']}")

    def fill(self, **values: Any) -> None:
        """Fill in fields of the form that is open."""
        for name, value in values.items():
            found = self.page.locator(f"#id_{name}")
            if found.evaluate("field => field.tagName") == "SELECT":
                found.select_option(str(value))
            else:
                found.fill(str(value))


def make(cloud: Cloud, name: str, **fields: Any) -> dict[str, Any]:
    """A VE that runs, by the API."""
    asked = {"name": name, "kind": "simulated", "image": "busybox", "memory_mib": 64, **fields}
    cloud.wait(cloud.ask("POST", "/ves", asked))
    return cloud.ves()[name]


def behind_its_back(cloud: Cloud, name: str, state: Observed | None) -> None:
    """Change a simulated guest without telling the cloud."""
    shown = cloud.ves()[name]
    outside(cloud.simulated_file(shown["node"]), f"{name}-{shown['id'][:8]}", state)


def password_of(made: Cloud, user: str = "admin", *options: str) -> str:
    """A new password for a user."""
    return made.run("passwd", user, *options, "--generate").stdout.strip()


def log_in(page: Page, made: Cloud, user: str, password: str) -> None:
    """By the form, as a person does."""
    page.goto(f"{made.url}/admin/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


class Desk:
    """Opens windows for a person who is logged in once per cloud."""

    def __init__(self, browser: Browser) -> None:
        self._browser, self._states, self._contexts = browser, {}, list[BrowserContext]()
        self.screens: list[Screen] = []

    def sit(
        self, made: Cloud, user: str = "admin", *, size: tuple[int, int] = LAPTOP, dark: bool = False, **options: Any
    ) -> Screen:
        """A new window, logged in; ``user`` empty: not."""
        state = self._state(made, user) if user else None
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            storage_state=state,
            **options,
        )
        self._contexts.append(context)
        screen = Screen(context.new_page(), made)
        screen.page.set_default_timeout(10000)
        self.screens.append(screen)
        screen.page.on("pageerror", lambda error: screen.wrong.append(str(error)))
        screen.page.on("console", lambda said: screen.wrong.append(said.text) if said.type == "error" else None)
        return screen

    def _state(self, made: Cloud, user: str) -> Any:
        key = (made.url, user)
        if key not in self._states:
            context = self._browser.new_context()
            try:
                page = context.new_page()
                log_in(page, made, user, password_of(made, user))
                page.get_by_role("heading", level=1, name="Now").wait_for()
                self._states[key] = context.storage_state()
            finally:
                context.close()
        return self._states[key]

    def leave(self) -> None:
        """Close all windows."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()
        self.screens.clear()
