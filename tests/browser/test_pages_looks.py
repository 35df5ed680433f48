"""How pages look and can be used: accessibility, phone and laptop, light and dark. Also takes the pictures of the documents."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser_kit import LAPTOP, PHONE, Desk, Screen, make
from tests.cloud import Cloud
from vmcloud.domain.vocabulary import Observed
from workers.drivers import simulated

pytestmark = pytest.mark.browser

KNOWN: set[tuple[str, str]] = set()
"""Serious and critical findings of the theme's own forms, (rule, selector), each with what upstream says of it. None so far."""
COLOURS = {"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": ["color-contrast"]}}
AXE = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def full(running: Cloud) -> Cloud:
    """A cloud with something to see on every page."""
    for name, vcpus, memory in (("web-1", 2, 512), ("web-2", 2, 512), ("db-1", 4, 2048), ("cache-1", 1, 256), ("mail-1", 1, 256)):
        make(running, name, vcpus=vcpus, memory_mib=memory, image="busybox")
    running.wait(running.ask("POST", "/ves/mail-1/stop", {}))
    running.wait(running.ask("POST", "/ves/db-1/snapshots", {"name": "before-upgrade"}))
    node = running.ves()["cache-1"]["node"]
    simulated.plan_fault(running.simulated_file(node), "stop", "error", 10)
    running.wait(running.ask("POST", "/ves/cache-1/stop", {}))
    simulated.plan_fault(running.simulated_file(node), "stop", "", 0)
    simulated.outside(running.simulated_file(node), "test-by-hand", Observed.STOPPED)
    running.until(lambda: running.ask("GET", "/strays")["items"], 10, "the orphan to be seen")
    running.ask("POST", "/queues", {"name": "batch", "max_running": 2, "users": ["ann"], "max_lease": 86400, "labels": ["ssd"]})
    held = {"hold": True, "depend": f"afterany:{running.ask('GET', '/jobs?ve=cache-1')['items'][0]['id']}"}
    running.ask("POST", "/ves/web-1/restart", {"job": held})
    running.wait(running.ask("POST", "/ves/web-1/alter", {"lease": {"for": 1800, "action": "delete"}}))
    return running


def pages(full: Cloud) -> dict[str, str]:
    """Every sort of page."""
    ve, failed = full.ves()["db-1"], full.ask("GET", "/jobs?ve=cache-1")["items"][0]["id"]
    held = full.ask("GET", "/jobs?ve=web-1&state=H")["items"][0]["id"]
    orphan = full.ask("GET", "/strays")["items"][0]["name"].replace("_", "_5F").replace("/", "_2F")
    return {
        "now": "",
        "ves": "fleet/ve/",
        "no-ves": "fleet/ve/?q=nothing-is-called-so",
        "ve": f"fleet/ve/{ve['id']}/change/",
        "create": "fleet/ve/add/",
        "change": f"fleet/ve/{ve['id']}/alter/",
        "snapshot": f"fleet/ve/{ve['id']}/snapshot/",
        "stop": f"fleet/ve/{ve['id']}/stop/",
        "revert": f"fleet/ve/{ve['id']}/revert/before-upgrade/",
        "jobs": "fleet/job/",
        "job": f"fleet/job/{failed}/change/",
        "held-job": f"fleet/job/{held}/change/",
        "alter-job": f"fleet/job/{held}/alter/",
        "move-job": f"fleet/job/{held}/move/",
        "order-job": f"fleet/job/{held}/order/",
        "end-job": f"fleet/job/{held}/cancel/",
        "queues": "fleet/queuerow/",
        "queue": "fleet/queuerow/main/change/",
        "make-queue": "fleet/queuerow/add/",
        "alter-queue": "fleet/queuerow/batch/set/",
        "remove-queue": "fleet/queuerow/batch/remove/",
        "lease": f"fleet/ve/{ve['id']}/lease/",
        "nodes": "fleet/node/",
        "node": f"fleet/node/{ve['node']}/change/",
        "images": "fleet/image/",
        "image": "fleet/image/busybox/change/",
        "events": "fleet/event/",
        "orphans": "fleet/stray/",
        "orphan": f"fleet/stray/{orphan}/change/",
        "adopt": f"fleet/stray/{orphan}/adopt/",
        "users": "auth/user/",
        "user": "auth/user/1/change/",
        "add-user": "auth/user/add/",
        "password": "password_change/",
    }


def findings(page: Page, options: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What axe has to say: (impact, rule, selector)."""
    found: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [(each["impact"], each["id"], str(node["target"][0])) for each in found for node in each["nodes"]]


def wide(page: Page) -> bool:
    """Whether the page can be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def test_every_page_has_a_title_and_none_a_finding_of_axe_or_scrolls_sideways(desk: Desk, full: Cloud) -> None:
    screen = desk.sit(full)
    bad = []
    for name, path in pages(full).items():
        screen.open(path)
        bad += [(name, *each) for each in findings(screen.page, AXE) if each[1:] not in KNOWN]
        if wide(screen.page):
            bad.append((name, "scrolls", "", ""))
        if not re.fullmatch(r"(?s)\s*\S.*(·|\|) vmcloud\s*", screen.page.title()):
            bad.append((name, "title", screen.page.title(), ""))
    assert bad == [], "\n".join(map(str, bad))


def test_in_the_dark_everything_can_be_read(desk: Desk, full: Cloud) -> None:
    """The colours are all that differs from the light."""
    screen = desk.sit(full, dark=True)
    bad = []
    for name in ("now", "ves", "ve", "job", "held-job", "queue", "create", "stop", "orphan", "user"):
        screen.open(pages(full)[name])
        bad += [(name, *each) for each in findings(screen.page, COLOURS) if each[1:] not in KNOWN]
    assert bad == [], "\n".join(map(str, bad))


def test_the_login_page_has_none_either(desk: Desk, full: Cloud) -> None:
    screen = desk.sit(full, user="")
    screen.page.goto(f"{full.url}/admin/")
    assert findings(screen.page, AXE) == []


def test_on_a_phone_no_page_scrolls_sideways(desk: Desk, full: Cloud) -> None:
    screen = desk.sit(full, size=PHONE)
    assert [name for name, path in pages(full).items() if wide(screen.open(path))] == []


def test_a_phone_has_the_whole_menu_and_can_ask_for_things(desk: Desk, full: Cloud) -> None:
    screen = desk.sit(full, size=PHONE, has_touch=True)
    page = screen.open("")
    jobs = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Jobs")
    expect(jobs).not_to_be_visible()
    menu = page.get_by_role("button", name="Menu")
    expect(menu).to_have_attribute("aria-expanded", "false")
    menu.tap()
    expect(jobs).to_be_visible()
    jobs.tap()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    expect(jobs).not_to_be_visible()
    page = screen.open("fleet/ve/")
    page.get_by_text("Filter", exact=True).tap()
    page.get_by_role("link", name="stopped").last.tap()
    expect(page.get_by_role("link", name="Show all")).to_be_visible()
    page = screen.ve("web-1")
    page.get_by_role("link", name="Stop", exact=True).tap()
    expect(page.get_by_role("button", name="Stop")).to_be_in_viewport()


def test_light_and_dark_follow_the_system_and_the_person(desk: Desk, full: Cloud) -> None:
    screen = desk.sit(full, dark=True)
    page = screen.open("")
    html = page.locator("html")
    expect(html).to_have_class("dark")
    page.locator(".vmc-person summary").click()
    page.get_by_role("button", name="Light").click()
    expect(html).not_to_have_class("dark")
    page.reload()
    expect(html).not_to_have_class("dark")


def test_without_scripts_pages_can_be_read_and_forms_be_sent(desk: Desk, full: Cloud) -> None:
    page = desk.sit(full, java_script_enabled=False).page
    page.goto(f"{full.url}/admin/fleet/ve/")
    page.get_by_role("link", name="web-2").click()
    expect(page.locator(".vmc-big")).to_have_text("running")
    page.get_by_role("link", name="Stop", exact=True).click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Asked for")).to_be_visible()
    full.until(lambda: full.ves()["web-2"]["status"] == "stopped", 15, "it to be stopped")
    full.wait(full.ask("POST", "/ves/web-2/start", {}))


def test_everything_can_be_reached_by_keyboard(screen: Screen, full: Cloud) -> None:
    page = screen.open("fleet/ve/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("db-")
    page.keyboard.press("Enter")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    filters = page.locator("#filters summary")
    filters.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Node")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Node")).not_to_be_visible()
    expect(filters).to_be_focused()


@pytest.mark.parametrize(("size", "suffix"), [(LAPTOP, ""), (PHONE, "-phone")], ids=["laptop", "phone"])
def test_pictures_for_the_documents(
    desk: Desk, full: Cloud, picture: Callable[[Page, str], None], size: tuple[int, int], suffix: str
) -> None:
    """Without ``--screenshots`` only that these pages show what they are about."""
    node = full.ves()["web-1"]["node"]
    simulated.plan_fault(full.simulated_file(node), "start", "hang")
    asked = {"name": "web-3", "kind": "simulated", "image": "busybox", "memory_mib": 512, "node": node}
    job = full.ask("POST", "/ves", asked)
    try:
        full.until(
            lambda: any(step["phase"] == "start" for step in full.job(job["id"])["steps"]), 15, "the start to be under way"
        )
        screen = desk.sit(full, size=size)
        shown = {name: pages(full)[name] for name in ("now", "ves", "ve", "create")} | {"job": f"fleet/job/{job['id']}/change/"}
        for name, path in shown.items():
            page = screen.open(path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            picture(page, f"{name}{suffix}")
        expect(page.get_by_role("region", name="Steps")).to_contain_text("running")
    finally:
        full.ask("POST", f"/jobs/{job['id']}/cancel", {})
        full.wait(job)
