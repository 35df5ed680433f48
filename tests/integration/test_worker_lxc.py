"""A real worker with real containers: fetch, create, stop, delete; a child that is killed; a worker that is killed."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import pytest

from tests.worker_kit import NATIVE, Desk, order
from vmcloud.domain.errors import POISON
from vmcloud.domain.messages import CancelOrder, Digest, Progress, Result, StepOrder
from vmcloud.domain.vocabulary import Kind, Observed, Outcome, StepVerb
from workers.drivers.registry import make_driver
from workers.storage.busybox import build_busybox

pytestmark = pytest.mark.integration


@dataclass
class Web:
    """A web part that gives one archive to whoever has the ticket ``good``."""

    url: str
    sha256: str
    size: int


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    archive = tmp_path_factory.mktemp("web") / "busybox.tar"
    build_busybox(archive)
    content = archive.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("Location", "/busybox")
                self.end_headers()
                return
            good = self.headers["Authorization"] == "Ticket good"
            self.send_response(200 if good else 403)
            self.end_headers()
            if good and self.path == "/slow":
                with contextlib.suppress(OSError):
                    for start in range(0, len(content), 1 << 16):
                        self.wfile.write(content[start : start + (1 << 16)])
                        time.sleep(0.2)
            elif good:
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Web(f"http://127.0.0.1:{server.server_port}/busybox", hashlib.sha256(content).hexdigest(), len(content))
    server.shutdown()


@pytest.fixture
def desk() -> Iterator[Desk]:
    if not os.environ.get("VMCLOUD_TEST_NAMESPACE"):
        pytest.fail("real containers are tested in namespaces of their own: run ./runtests")
    folder = Path(mkdtemp(prefix="w"))
    folder.chmod(0o711)
    made = Desk(folder, node={"kinds": ["lxc"], "bridge": "vcwork0", "subnet": "10.213.87.0/24"})
    for path in (folder, made.data):
        path.chmod(0o711)
    yield made
    made.close()
    driver = make_driver(Kind.LXC, made.config, "n1")
    for seen in driver.list():
        driver.delete(seen.native)


def fetch(web: Web, job: int = 1, **changes: object) -> StepOrder:
    args = {"image": "busybox", "sha256": web.sha256, "size": web.size, "url": web.url, "ticket": "good", **changes}
    lane = f"image:{web.sha256}@n1"
    return StepOrder(job, 1, 1, "n1", StepVerb.FETCH, lane, None, "", None, 0, args, 60)


def lxc(job: int, verb: StepVerb, web: Web, **more: object) -> StepOrder:
    args = {"image_sha256": web.sha256} if verb is StepVerb.CREATE else {"force": True}
    return order(job, verb=verb, kind=Kind.LXC, generation=job, **{**args, **more})  # type: ignore[arg-type]


def test_a_container_from_nothing_to_nothing(desk: Desk, web: Web) -> None:
    desk.up()
    assert desk.wait(Digest).facts.kinds == (Kind.LXC,)
    desk.heard.clear()
    assert desk.done(fetch(web)).outcome is Outcome.OK
    assert desk.wait(Digest, lambda each: bool(each.images)).images == (web.sha256,)
    made = desk.done(lxc(2, StepVerb.CREATE, web))
    assert made.outcome is Outcome.OK and made.seen is not None, made
    assert (made.seen.state, made.seen.addresses, made.seen.memory_mib) == (Observed.RUNNING, ("10.213.87.2",), 128)
    for number, (verb, state) in enumerate(
        [(StepVerb.SUSPEND, "suspended"), (StepVerb.RESUME, "running"), (StepVerb.STOP, "stopped"), (StepVerb.START, "running")],
        3,
    ):
        result = desk.done(lxc(number, verb, web))
        assert result.seen is not None and result.seen.state == state, result
    gone = desk.done(lxc(10, StepVerb.DELETE, web))
    assert gone.outcome is Outcome.OK and gone.seen is None
    assert not (desk.home / "lxc" / NATIVE).exists()


def test_an_image_goes_when_no_container_is_a_layer_over_it(desk: Desk, web: Web) -> None:
    def remove(job: int) -> Result:
        each = replace(fetch(web, job), verb=StepVerb.REMOVE_IMAGE, args={"sha256": web.sha256})
        return desk.done(each)

    desk.up()
    desk.done(fetch(web))
    desk.done(lxc(2, StepVerb.CREATE, web))
    refused = remove(3)
    assert refused.outcome is Outcome.FAILED and refused.error is not None and "in use" in refused.error.what
    renamed = f"b-{NATIVE[2:]}"
    desk.done(lxc(4, StepVerb.STOP, web))
    moved = desk.done(lxc(5, StepVerb.RENAME, web, native=renamed))
    assert moved.seen is not None and (moved.seen.native, moved.seen.state) == (renamed, Observed.STOPPED), moved
    desk.done(replace(lxc(6, StepVerb.DELETE, web), native=renamed))
    assert remove(7).outcome is Outcome.OK and remove(8).outcome is Outcome.OK
    assert not (desk.home / "images" / web.sha256).exists()


def test_a_prologue_that_refuses_leaves_a_container_as_it_is_and_makes_none(desk: Desk, web: Web) -> None:
    desk.up()
    desk.done(fetch(web))
    desk.done(lxc(2, StepVerb.CREATE, web))
    hook = desk.home / "hooks" / "prologue"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    stop = desk.done(lxc(3, StepVerb.STOP, web))
    assert stop.error is not None and (stop.error.code, stop.undone) == ("prologue", True)
    assert stop.seen is not None and stop.seen.state is Observed.RUNNING
    other = desk.done(lxc(4, StepVerb.CREATE, web, ve=uuid4()))
    assert other.error is not None and (other.error.code, other.undone, other.seen) == ("prologue", True, None)
    assert [each.name for each in (desk.home / "lxc").glob("a-*")] == [NATIVE]
    hook.unlink()
    assert desk.done(lxc(5, StepVerb.STOP, web)).outcome is Outcome.OK


def test_a_bad_ticket_a_wrong_sum_or_a_redirect_leave_no_image(desk: Desk, web: Web) -> None:
    desk.up()
    wrong = [{"ticket": "bad"}, {"sha256": "0" * 64}, {"size": 10}, {"url": web.url.replace("busybox", "elsewhere")}]
    for job, changes in enumerate([*wrong, {"url": "file:///etc/passwd"}], 1):
        result = desk.done(fetch(web, job, **changes))
        assert result.outcome is Outcome.FAILED and result.error is not None, changes
    assert not list(desk.home.glob("download-*"))


def test_the_worker_is_killed_while_its_child_works_and_the_next_finishes(desk: Desk, web: Web) -> None:
    desk.up()
    desk.done(fetch(web))
    desk.send(lxc(2, StepVerb.CREATE, web))
    end = time.monotonic() + 15
    while not any((desk.home / "lxc" / place / NATIVE).exists() for place in (".making", "")):
        assert time.monotonic() < end, "the child makes no guest"
    desk.kill()
    desk.up()
    result = desk.result(2)
    assert result.seen is not None and result.seen.state is Observed.RUNNING
    assert desk.done(lxc(3, StepVerb.DELETE, web)).outcome is Outcome.OK


def test_a_child_that_always_dies_is_poison_and_takes_nobody_along(desk: Desk, web: Web) -> None:
    desk.up()
    desk.done(fetch(web))
    ending = threading.Event()

    def again() -> None:
        while not ending.wait(0.01):
            desk.fail_at("driver.lxc.start.ordered")

    thread = threading.Thread(target=again, daemon=True)
    thread.start()
    desk.send(lxc(2, StepVerb.CREATE, web))
    result = desk.result(2)
    ending.set()
    thread.join()
    assert desk.worker is not None and desk.worker.poll() is None
    assert result.error is not None and (result.error.code, result.undone, result.seen) == (POISON, True, None)
    assert result.error.why == "its process was killed by SIGKILL (3x)"
    assert list((desk.home / "lxc").glob("a-*")) == []


def test_a_running_child_is_killed_by_a_cancel_and_leaves_nothing(desk: Desk, web: Web) -> None:
    desk.up()
    desk.send(fetch(web, url=web.url.replace("busybox", "slow")))
    desk.wait(Progress, lambda each: each.name == "download")
    assert list(desk.home.glob("download-*"))
    cancelled = time.monotonic()
    desk.send(CancelOrder(1, 1, 1, "n1"))
    result = desk.result(1)
    assert time.monotonic() - cancelled < 1.0
    assert (result.outcome, result.undone) == (Outcome.CANCELLED, True)
    assert not list(desk.home.glob("download-*"))


def test_a_killed_worker_takes_its_child_along(desk: Desk, web: Web) -> None:
    desk.up()
    desk.send(fetch(web, url=web.url.replace("busybox", "slow")))
    desk.wait(Progress, lambda each: each.name == "download")
    desk.kill()
    time.sleep(0.3)
    (download,) = desk.home.glob("download-*")
    size = download.stat().st_size
    time.sleep(0.5)
    assert download.stat().st_size == size
    desk.up()
    again = desk.wait(Progress, lambda each: each.name == "download")  # taken up by itself
    assert again.job == 1


@pytest.mark.slow
def test_a_call_that_a_frozen_monitor_process_holds_up_is_named(desk: Desk, web: Web) -> None:
    desk.up()
    desk.done(fetch(web))
    assert desk.done(lxc(2, StepVerb.CREATE, web)).outcome is Outcome.OK
    monitor = next(pid for pid in pids() if "[lxc monitor]" in commandline(pid) and NATIVE in commandline(pid))
    os.kill(monitor, signal.SIGSTOP)
    try:
        desk.send(lxc(3, StepVerb.STOP, web, force=False, grace=0.0))
        said = desk.wait(Progress, lambda each: each.name.startswith("hung in lxc."), 30)
        assert " for 1" in said.name, said.name
    finally:
        os.kill(monitor, signal.SIGCONT)
    assert desk.result(3).outcome is Outcome.OK


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def commandline(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
