"""Open pages follow the cloud without being loaded again, and leave alone what the person is doing on them."""

from __future__ import annotations

import signal
import time

import pytest
from playwright.sync_api import Route, expect

from tests.browser_kit import SOON, Desk, Screen, behind_its_back, make
from tests.cloud import Cloud
from vmcloud.domain.vocabulary import Observed

pytestmark = pytest.mark.browser


def loads(screen: Screen) -> int:
    """How often a document was loaded in this window since it was marked: 0 if the mark is gone."""
    return int(screen.page.evaluate("window.mark || 0"))


def mark(screen: Screen) -> None:
    screen.page.evaluate("window.mark = 1")


def test_a_new_ve_comes_into_the_list_and_becomes_running(screen: Screen, running: Cloud) -> None:
    screen.open("fleet/ve/")
    mark(screen)
    make(running, "fresh")
    row = screen.row("fresh")
    expect(row).to_contain_text("running", timeout=SOON)
    expect(screen.page.locator(".vmc-tabs a[aria-current]")).to_contain_text(str(len(running.ves())))
    assert loads(screen) == 1, "the page was loaded anew"


def test_what_happens_behind_the_clouds_back_shows_on_the_open_page(screen: Screen, running: Cloud) -> None:
    make(running, "struck", restart="never")
    page = screen.ve("struck")
    expect(page.locator(".vmc-big")).to_have_text("running")
    mark(screen)
    behind_its_back(running, "struck", Observed.STOPPED)
    expect(page.locator(".vmc-big")).to_have_text("stopped", timeout=SOON)
    expect(page.get_by_role("link", name="Stop", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    assert loads(screen) == 1


def test_what_the_person_is_doing_stays(screen: Screen, running: Cloud) -> None:
    """A checked box, a half-typed search, the place on the page, the focus: while rows change around them."""
    for name in ("stay-1", "stay-2"):
        make(running, name)
    page = screen.open("fleet/ve/")
    screen.row("stay-1").locator("input").check()
    search = page.get_by_role("searchbox")
    search.type("half a wo")
    page.set_viewport_size({"width": 1280, "height": 300})
    page.evaluate("window.scrollTo(0, 120)")
    behind_its_back(running, "stay-2", Observed.SUSPENDED)
    expect(screen.row("stay-2")).to_contain_text("suspended", timeout=SOON)
    assert screen.row("stay-1").locator("input").is_checked()
    expect(search).to_have_value("half a wo")
    expect(search).to_be_focused()
    assert page.evaluate("window.scrollY") == 120
    expect(page.get_by_text("With the 1 chosen:")).to_be_visible()


def test_details_that_are_open_stay_open(screen: Screen, running: Cloud) -> None:
    node = make(running, "opened")["node"]
    page = screen.open(f"fleet/node/{node}/change/")
    kinds = page.locator("#kind-simulated")
    kinds.locator("summary").click()
    expect(page.get_by_role("link", name="opened")).to_be_visible()
    running.wait(running.ask("DELETE", "/ves/opened"))
    expect(page.get_by_role("link", name="opened")).to_have_count(0, timeout=SOON)
    expect(kinds).to_have_attribute("open", "")


def test_a_page_whose_subject_is_gone_says_so(desk: Desk, running: Cloud) -> None:
    make(running, "short-lived")
    screen = desk.sit(running)
    screen.forgiven = ("404",)
    page = screen.ve("short-lived")
    running.wait(running.ask("DELETE", "/ves/short-lived"))
    expect(page.locator(".vmc-messages")).to_contain_text("there no more", timeout=SOON)
    expect(page.locator("#live")).to_contain_text("gone")


def test_the_sign_says_when_the_page_does_not_follow_and_it_finds_back_by_itself(desk: Desk, running: Cloud) -> None:
    make(running, "meanwhile", restart="never")
    screen = desk.sit(running)
    screen.forgiven = ("ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY_RESPONSE")
    page = screen.open("fleet/ve/")
    running.signal("web", signal.SIGKILL)
    expect(page.locator("#live")).to_contain_text("reconnecting", timeout=SOON)
    running.until(lambda: running.api("GET", "/healthz").status == 200, 30, "the web part to be back")
    behind_its_back(running, "meanwhile", Observed.STOPPED)
    expect(page.locator("#live")).to_have_attribute("data-state", "live", timeout=30000)
    expect(screen.row("meanwhile")).to_contain_text("stopped", timeout=SOON)


def test_a_page_that_fails_is_asked_for_again_ever_more_rarely(desk: Desk, running: Cloud) -> None:
    make(running, "unlucky", restart="never")
    screen = desk.sit(running)
    screen.forgiven = ("500",)
    page = screen.ve("unlucky")
    asked: list[float] = []

    def fail(route: Route) -> None:
        asked.append(time.monotonic())
        route.fulfill(status=500, body="broken")

    page.route("**/change/", fail)
    behind_its_back(running, "unlucky", Observed.STOPPED)
    running.until(lambda: page.wait_for_timeout(50) or len(asked) >= 3, 15, "three tries")
    assert asked[2] - asked[1] > 1.5 * (asked[1] - asked[0]) > 1.0
    page.unroute("**/change/")
    expect(page.locator(".vmc-big")).to_have_text("stopped", timeout=15000)


def test_who_is_logged_out_elsewhere_is_told(desk: Desk, running: Cloud) -> None:
    make(running, "watched", restart="never")
    screen = desk.sit(running)
    page = screen.ve("watched")
    page.context.clear_cookies()
    behind_its_back(running, "watched", Observed.STOPPED)
    expect(page.locator(".vmc-messages")).to_contain_text("You are logged out", timeout=SOON)
