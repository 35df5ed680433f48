"""One person, one browser, one real container: the form makes it, the page shows what happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser_kit import SOON, Desk
from tests.cloud import Cloud, cloud
from vmcloud.config import Config
from workers.storage.busybox import build_busybox

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """This machine as a node of containers. Slow lists: what is seen at once is seen by events."""
    archive = tmp_path_factory.mktemp("image") / "busybox.tar"
    build_busybox(archive)
    node = 'bridge = "vcbr0"\nsubnet = "10.213.87.0/24"'
    with cloud(simulate=0, node=node, intervals={"relist": 60.0, "node_down": 180.0}) as made:
        made.image("busybox", archive.read_bytes())
        yield made


def init_of(real: Cloud, name: str) -> int:
    """The process that a container's init is, outside."""
    folder = Config.load(real.data).node_home("n") / "lxc"
    argv = ["lxc-info", "-P", str(folder), "-n", f"{name}-{real.ves()[name]['id'][:8]}", "-p", "-H"]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout)


def test_a_container_from_the_form_to_a_kill_behind_the_clouds_back(desk: Desk, real: Cloud) -> None:
    screen = desk.sit(real)
    page = screen.open("fleet/ve/add/")
    screen.fill(name="real-1", kind="lxc", memory_mib=64, restart="on-failure")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator(".vmc-big")).to_have_text("ok", timeout=20000)
    page.get_by_role("link", name="To real-1").click()
    expect(page.get_by_text("10.213.87.").first).to_be_visible(timeout=SOON)

    page.get_by_role("link", name="Change", exact=True).click()
    expect(page.get_by_text("No restart is needed")).to_be_visible()
    screen.fill(memory_mib=48)
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("row", name="Memory").get_by_role("cell")).to_have_text(["48 MiB", "48 MiB"], timeout=20000)

    page.evaluate("window.mark = 1")
    first = init_of(real, "real-1")
    os.kill(first, signal.SIGKILL)
    happened = page.get_by_role("region", name="What happened")
    expect(happened).to_contain_text("by rule R1", timeout=20000)
    expect(page.locator(".vmc-big")).to_have_text("running", timeout=20000)
    assert page.evaluate("window.mark") == 1, "the page was loaded anew"
    real.until(lambda: init_of(real, "real-1") != first, 10, "another init")

    page.get_by_role("link", name="Stop", exact=True).click()
    page.get_by_label("By force").check()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".vmc-big")).to_have_text("stopped", timeout=20000)
