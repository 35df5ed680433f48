"""Forms and buttons: what a person asks for in the browser, once, and is told what came of it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser_kit import LAPTOP, SOON, Desk, Screen, log_in, make, password_of
from tests.cloud import Cloud
from vmcloud.domain.vocabulary import Observed
from workers.drivers.simulated import outside

pytestmark = pytest.mark.browser


def verbs(running: Cloud, name: str) -> list[str]:
    """The jobs that were asked for about a VE, oldest first."""
    return [job["verb"] for job in reversed(running.ask("GET", f"/jobs?ve={name}&limit=100")["items"])]


def test_from_login_to_a_running_ve_another_size_and_its_end(desk: Desk, running: Cloud) -> None:
    """The way of a new administrator, all by mouse and keyboard."""
    screen = desk.sit(running, user="")
    screen.forgiven = ("404",)  # of the page that follows what is deleted in the end
    page = screen.page
    log_in(page, running, "admin", "a wrong guess")
    expect(page.get_by_role("alert")).to_be_visible()
    log_in(page, running, "admin", password_of(running))
    expect(page.get_by_role("heading", level=1)).to_have_text("Now")

    page.get_by_role("link", name="Create a VE").click()
    screen.fill(name="shop-1", kind="simulated", vcpus=2, memory_mib=128, description="Sells <b>bold</b> things.")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("create shop-1")
    expect(page.locator(".vmc-big")).to_have_text("ok", timeout=SOON)

    page.get_by_role("link", name="To shop-1").click()
    expect(page.locator(".vmc-big")).to_have_text("running")
    expect(page.get_by_text("Sells <b>bold</b> things.")).to_be_visible()
    page.get_by_role("link", name="Change", exact=True).click()
    expect(page.get_by_text("No restart is needed")).to_be_visible()
    screen.fill(memory_mib=256, restart="always", description="Sells more.")
    page.get_by_role("button", name="Change").click()
    memory = page.get_by_role("row", name="Memory")
    expect(memory.get_by_role("cell")).to_have_text(["256 MiB", "256 MiB"], timeout=SOON)
    expect(page.get_by_text("Sells more.")).to_be_visible(timeout=SOON)
    expect(page.get_by_text("always: it is started again")).to_be_visible()

    page.get_by_role("link", name="Snapshot", exact=True).click()
    screen.fill(snapshot="before")
    page.get_by_role("button", name="Take it").click()
    expect(page.get_by_role("row", name="before")).to_be_visible(timeout=SOON)
    page.get_by_role("link", name="Revert to before").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Take shop-1 back to before?")
    page.get_by_role("button", name="Revert").click()

    page.get_by_role("link", name="Stop", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Stop shop-1?")
    page.get_by_role("link", name="No, leave it").click()
    page.get_by_role("link", name="Stop", exact=True).click()
    page.get_by_label("By force").check()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".vmc-big")).to_have_text("stopped", timeout=SOON)
    assert verbs(running, "shop-1") == ["create", "resize", "alter", "snapshot", "revert", "stop"]
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".vmc-big")).to_have_text("running", timeout=SOON)
    page.get_by_role("link", name="Delete", exact=True).first.click()
    page.get_by_role("button", name="Delete").click()
    running.until(lambda: "shop-1" not in running.ves(), 10, "it to be gone")


def test_a_refusal_stands_beside_its_field_and_nothing_typed_is_lost(screen: Screen, running: Cloud) -> None:
    page = screen.open("fleet/ve/add/")
    screen.fill(name="no;name", kind="simulated", memory_mib=99999999, description="kept")
    page.get_by_role("button", name="Create", exact=True).click()
    name = page.locator("#id_name")
    expect(name).to_have_value("no;name")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#id_name-wrong")).to_contain_text("DNS label")
    expect(page.locator("#id_description")).to_have_value("kept")
    screen.fill(name="fine-name")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator("#id_memory_mib-wrong")).to_contain_text("MiB")
    assert "fine-name" not in running.ves()


def test_a_form_sent_twice_makes_one_job(screen: Screen, running: Cloud) -> None:
    """A double click, and "back" with another sending."""
    page = screen.open("fleet/ve/add/")
    screen.fill(name="once", kind="simulated", memory_mib=64)
    # The script that spares people this must not be what it hangs on.
    page.evaluate("""() => {
        const form = document.querySelector("main form"), data = new URLSearchParams(new FormData(form));
        const send = () => fetch(location.href, {method: "POST", body: data});
        return Promise.all([send(), send(), send()]);
    }""")
    page.get_by_role("button", name="Create", exact=True).dblclick()
    expect(page.get_by_role("heading", level=1)).to_contain_text("create once")
    assert verbs(running, "once") == ["create"]


def test_chosen_rows_are_stopped_together_and_what_does_not_fit_is_left_alone(screen: Screen, running: Cloud) -> None:
    make(running, "many-1")
    make(running, "many-2")
    make(running, "many-3", power="stopped")
    page = screen.open("fleet/ve/?q=many")
    page.get_by_label("Choose all on this page").check()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Stop 2 VEs?")
    expect(page.get_by_text("left alone: it is stopped")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    for name in ("many-1", "many-2"):
        expect(screen.row(name)).to_contain_text("stopped", timeout=SOON)
    assert verbs(running, "many-3") == ["create"]


def test_one_who_is_no_administrator_sees_and_does_only_what_is_theirs(desk: Desk, running: Cloud) -> None:
    make(running, "not-hers")
    password_of(running, "ann", "--create")
    code = "from django.contrib.auth.models import User; User.objects.filter(username='ann').update(is_staff=True)"
    manage(running, "shell", "-c", code)
    screen = desk.sit(running, "ann", size=LAPTOP)
    page = screen.open("fleet/ve/")
    expect(page.get_by_text("No VEs yet")).to_be_visible()
    foreign = running.ves()["not-hers"]["id"]
    for path in ("change/", "stop/", "delete/", "alter/", "snapshot/"):
        assert page.request.get(f"{running.url}/admin/fleet/ve/{foreign}/{path}").status == 404
    screen.open("fleet/ve/add/")
    screen.fill(name="hers", kind="simulated", memory_mib=64)
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator(".vmc-big")).to_have_text("ok", timeout=SOON)
    assert running.ves()["hers"]["owner"] == "ann"
    running.wait(running.ask("POST", "/ves/not-hers/stop", {}))
    page.get_by_role("link", name="VEs", exact=True).first.click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)


def manage(running: Cloud, *arguments: str) -> None:
    """A management command of the cloud's web part."""
    import os
    import subprocess
    import sys

    from tests.cloud import SOURCE

    env = {**os.environ, "VMCLOUD_DATA": str(running.data), "PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-m", "vmcloud.site", *arguments], env=env, check=True, capture_output=True, timeout=60)


def test_a_guest_made_by_hand_shows_as_an_orphan_and_becomes_a_ve(screen: Screen, running: Cloud) -> None:
    page = screen.open("fleet/stray/")
    outside(running.simulated_file(running.node_names()[0]), "made-by-hand", Observed.STOPPED)
    page.get_by_role("link", name="made-by-hand").click()
    page.get_by_role("link", name="Adopt").click()
    expect(page.get_by_label("Name")).to_have_value("made-by-hand")
    screen.fill(name="tamed", memory_mib=96)
    page.get_by_role("button", name="Adopt").click()
    expect(page.locator(".vmc-big")).to_have_text("ok", timeout=SOON)
    page.get_by_role("link", name="To tamed").click()
    expect(page.locator(".vmc-big")).to_have_text("stopped")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".vmc-big")).to_have_text("running", timeout=SOON)


def test_a_queue_is_made_and_stopped_and_its_job_moved_altered_and_ended(screen: Screen, running: Cloud) -> None:
    make(running, "moved")
    job = running.ask("POST", "/ves/moved/stop", {"job": {"hold": True}})
    page = screen.open("fleet/queuerow/")
    page.get_by_role("link", name="Make a queue").click()
    screen.fill(name="No Label", max_running=1)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#id_name-wrong")).to_be_visible()
    screen.fill(name="nightly", default_lease="8h")
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".vmc-big")).to_contain_text("stopped")

    page = screen.open(f"fleet/job/{job['id']}/change/")
    expect(page.get_by_text("It is held by its user.")).to_be_visible()
    page.get_by_role("link", name="Move", exact=True).click()
    page.get_by_label("Queue").select_option("nightly")
    page.get_by_role("button", name="Move").click()
    page.get_by_role("link", name="Alter", exact=True).click()
    screen.fill(priority=5)
    page.get_by_role("button", name="Alter").click()
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("listitem").filter(has_text="Queue nightly is stopped.")).to_be_visible(timeout=SOON)
    shown = running.job(job["id"])
    assert (shown["queue"], shown["priority"], shown["holds"]) == ("nightly", 5, "")
    page.get_by_role("link", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".vmc-big")).to_have_text("cancelled", timeout=SOON)
    screen.open("fleet/queuerow/nightly/remove/").get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Queues")
    assert "nightly" not in [each["name"] for each in running.ask("GET", "/queues")["items"]]


def test_stored_markup_is_text_everywhere(screen: Screen, running: Cloud) -> None:
    """In a description, and in the words that a job's reason, an event and a node's page repeat."""
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    shown = make(running, "marked", description=hostile)
    page = screen.ve("marked")
    expect(page.get_by_text(hostile)).to_be_visible()
    job = running.ask("GET", "/jobs?ve=marked")["items"][0]["id"]
    for path in (
        f"fleet/job/{job}/change/",
        f"fleet/node/{shown['node']}/change/",
        "fleet/ve/?q=%3Cscript%3Ealert(3)%3C/script%3E",
    ):
        screen.open(path)
        assert page.locator("main script, main img").count() == 0
    running.wait(running.ask("DELETE", "/ves/marked"))
