"""What happens behind the cloud's back: seen within a second by events alone, and answered as the restart policy says.

Lists and reconcile have their next turn in an hour: whatever is seen or done here, an event led to it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from vmcloud.config import Config
from workers.drivers.lxc.power import LXC_PATH
from workers.storage.busybox import build_busybox

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

HOUR = {"relist": 3600.0, "node_down": 9000.0, "reconcile": 3600.0}
WITHIN = 1.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    node = 'bridge = "vcou0"\nsubnet = "10.213.89.0/24"'
    archive = tmp_path_factory.mktemp("image") / "busybox.tar"
    build_busybox(archive)
    with cloud(simulate=0, node=node, intervals=HOUR) as made:
        made.run("image", "import", "busybox", str(archive), "--wait")
        yield made


def home(running: Cloud) -> Path:
    return Config.load(running.data).node_home("n") / "lxc"


def lxc(running: Cloud, tool: str, native: str, *more: str, check: bool = True) -> str:
    """A tool of LXC itself, as root would use it on the node."""
    path = LXC_PATH if tool == "lxc-start" else os.environ["PATH"]
    argv = [shutil.which(tool) or tool, "-P", str(home(running)), "-n", native, *more]
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=check, stdin=subprocess.DEVNULL, env=environment
    )
    return done.stdout


class Guest:
    """One VE, as the directory and the API show it, and its container."""

    def __init__(self, running: Cloud, name: str, restart: str) -> None:
        self.running, self.name = running, name
        running.run("ve", "create", name, "--image", "busybox", "--memory", "64", "--restart", restart, "--wait")
        self.native = f"{name}-{running.ves()[name]['id'][:8]}"
        self.directory = running.directory()
        running.until(lambda: self.lxc("lxc-attach", "--", "true", check=False) == "", 10, "it to answer")

    def lxc(self, tool: str, *more: str, check: bool = True) -> str:
        return lxc(self.running, tool, self.native, *more, check=check)

    def init(self) -> int:
        return int(self.lxc("lxc-info", "-p", "-H"))

    def entry(self) -> tuple[str, str]:
        """What is wanted and what was seen, in the directory."""
        record = self.directory.ve_named("main", self.name)
        assert record is not None
        return record.desired.value, record.observed.state.value if record.observed else ""

    def shown(self) -> dict[str, Any]:
        return self.running.ves()[self.name]

    def jobs(self) -> list[dict[str, Any]]:
        """Those that reconcile made."""
        found = self.running.ask("GET", f"/jobs?ve={self.name}")["items"]
        return [each for each in found if each["origin"].startswith("reconcile")]

    def events(self) -> list[str]:
        return [each["text"] for each in self.running.ask("GET", f"/events?ve={self.name}&type=state")["items"]]

    def within(self, look: Callable[[], object], what: str, seconds: float = WITHIN) -> None:
        """From now on it may take a second."""
        began = time.monotonic()
        self.running.until(look, 10, what)
        assert time.monotonic() - began < seconds, f"it took {time.monotonic() - began:.2f} s until {what}"

    def seen(self, state: str) -> None:
        """Directory and API say so within a second."""
        self.within(lambda: self.entry()[1] == state, f"the directory says {state}: {self.entry()}")
        self.within(lambda: self.shown()["observed"] == state, f"the API says {state}")

    def delete(self) -> None:
        self.running.run("ve", "delete", self.name, "--wait")


@pytest.fixture
def make(running: Cloud) -> Iterator[Callable[[str, str], Guest]]:
    made: list[Guest] = []

    def build(name: str, restart: str) -> Guest:
        made.append(Guest(running, name, restart))
        return made[-1]

    yield build
    for guest in made:
        guest.delete()


def test_stop_start_freeze_and_reboot_by_hand_are_seen_within_a_second(make: Callable[[str, str], Guest]) -> None:
    guest = make("hand", "never")
    before = guest.init()
    guest.lxc("lxc-attach", "--", "reboot", "-f", check=False)
    guest.within(lambda: int(guest.lxc("lxc-info", "-p", "-H", check=False) or 0) not in (0, before), "it reboots", 10)
    guest.seen("running")
    assert guest.entry() == ("running", "running") and not guest.jobs(), "a reboot is no end"
    guest.lxc("lxc-freeze")
    guest.seen("suspended")
    guest.lxc("lxc-unfreeze")
    guest.seen("running")
    guest.lxc("lxc-stop", "-k")
    guest.seen("crashed")
    guest.within(lambda: guest.entry()[0] == "stopped", "what is wanted follows, as the policy `never` says")
    guest.lxc("lxc-start")
    guest.seen("running")
    assert guest.shown()["status"] == "running" and "wanted stopped" in guest.shown()["reason"]


@pytest.mark.parametrize("who", ["init", "monitor"])
def test_a_killed_guest_is_started_again_at_once_by_a_job_that_says_why(make: Callable[[str, str], Guest], who: str) -> None:
    guest = make(f"killed-{who}", "on-failure")
    before = guest.init()
    stat = Path(f"/proc/{before}/stat").read_text()
    os.kill(before if who == "init" else int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    guest.within(lambda: any(text.startswith("crashed") for text in guest.events()), "it is seen crashed")
    guest.within(lambda: [job["state"] for job in guest.jobs()] == ["C"], "reconcile's job is done", 3.0)
    (job,) = guest.jobs()
    assert (job["origin"], job["verb"], job["outcome"]) == ("reconcile:R1", "start", "ok")
    guest.seen("running")
    assert guest.init() != before
    assert guest.entry() == ("running", "running")


def test_one_that_is_killed_again_waits_longer(make: Callable[[str, str], Guest]) -> None:
    guest = make("again", "always")
    os.kill(guest.init(), signal.SIGKILL)
    guest.within(lambda: [job["state"] for job in guest.jobs()] == ["C"], "the first try is at once", 3.0)
    guest.seen("running")
    os.kill(guest.init(), signal.SIGKILL)
    guest.seen("crashed")
    time.sleep(0.5)
    assert len(guest.jobs()) == 1, "the second waits for its time"
    assert guest.entry()[0] == "running"


def test_a_guests_own_shutdown_stays_down(make: Callable[[str, str], Guest]) -> None:
    guest = make("own", "on-failure")
    guest.lxc("lxc-attach", "--", "poweroff", check=False)
    guest.within(lambda: guest.entry()[1] == "stopped", "it is down", 15)
    guest.within(lambda: guest.entry()[0] == "stopped", "what is wanted follows")
    (job,) = guest.jobs()
    assert (job["origin"], job["verb"], job["state"], job["outcome"]) == ("reconcile:R1", "stop", "C", "ok")
    assert "shut itself down" in job["reason"]
    assert guest.shown()["status"] == "stopped"


def test_a_guests_own_shutdown_is_undone_where_it_is_always_to_run(make: Callable[[str, str], Guest]) -> None:
    guest = make("always", "always")
    before = guest.init()
    guest.lxc("lxc-attach", "--", "poweroff", check=False)

    def back() -> bool:
        pid = int(guest.lxc("lxc-info", "-p", "-H", check=False) or 0)
        return pid not in (0, before) and guest.entry() == ("running", "running")

    guest.within(back, "it runs again", 15)
    assert [job["verb"] for job in guest.jobs()] == ["start"]


def test_many_that_are_killed_at_once_are_all_seen(running: Cloud, make: Callable[[str, str], Guest]) -> None:
    guests = [make(f"many-{number}", "never") for number in range(6)]
    pids = [guest.init() for guest in guests]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for guest in guests:
        guest.seen("crashed")


def strays(running: Cloud) -> dict[str, str]:
    return {each.seen.native: each.seen.state.value for each in running.directory().strays()}


def test_a_container_made_by_hand_is_an_orphan_within_a_second_and_is_left_alone(running: Cloud) -> None:
    def within(look: Callable[[], object], what: str) -> None:
        began = time.monotonic()
        running.until(look, 10, what)
        assert time.monotonic() - began < WITHIN

    lxc(running, "lxc-create", "theirs", "-t", "busybox", "-f", "/dev/null")
    try:
        within(lambda: strays(running) == {"theirs": "stopped"}, "the orphan is seen")
        lxc(running, "lxc-start", "theirs")
        within(lambda: strays(running) == {"theirs": "running"}, "its start is seen")
        lxc(running, "lxc-stop", "theirs", "-k")
        within(lambda: strays(running) == {"theirs": "stopped"}, "its stop is seen")
        assert (home(running) / "theirs" / "config").exists()
    finally:
        lxc(running, "lxc-destroy", "theirs", "-f")
    within(lambda: strays(running) == {}, "its end is seen")


def test_a_container_made_by_hand_is_adopted_and_runs_as_a_ve(running: Cloud) -> None:
    """Its image has its own init; who made it is root on the node, so it shares the node's user ids and says so."""
    lxc(running, "lxc-create", "Their.old", "-t", "busybox", "-f", "/dev/null")
    folder = home(running) / "Their.old"
    try:
        running.until(lambda: "Their.old" in strays(running), 5, "the orphan is seen")
        (folder / "rootfs" / "root" / "theirs").write_text("kept\n")
        listed = running.run("ve", "list", "--orphans", "-o", "name").stdout.split()
        assert listed == ["n/Their.old"]
        refused = running.run("ve", "adopt", "n/Their.old", "--name", "theirs", check=False)
        assert refused.returncode == 1 and "--memory" in refused.stderr
        running.run("ve", "adopt", "n/Their.old", "--name", "theirs", "--memory", "64", "--wait")
        assert strays(running) == {} and not folder.exists()
        shown = running.ves()["theirs"]
        assert (shown["status"], shown["privileged"], shown["memory_mib"]) == ("stopped", True, 64)
        assert shown["vcpus"] == os.cpu_count(), "it had no limit"
        running.run("ve", "start", "theirs", "--wait")
        assert running.run("ve", "exec", "theirs", "--", "cat", "/root/theirs").stdout == "kept\n"
        record = running.directory().ve_named("main", "theirs")
        assert record is not None and record.observed is not None and record.observed.memory_mib == 64
        native = f"theirs-{shown['id'][:8]}"
        os.kill(int(lxc(running, "lxc-info", native, "-p", "-H")), signal.SIGKILL)
        running.until(lambda: running.ask("GET", "/jobs?ve=theirs")["items"][0]["origin"] == "reconcile:R1", 3, "R1 to mend it")
        running.until(lambda: running.ves()["theirs"]["status"] == "running", 10, "it runs again")
        running.run("ve", "delete", "theirs", "--wait")
        assert not (home(running) / native).exists()
    finally:
        if folder.exists():
            lxc(running, "lxc-destroy", "Their.old", "-f")


def test_a_guest_that_is_removed_by_hand_is_lost_and_not_made_anew(running: Cloud, make: Callable[[str, str], Guest]) -> None:
    guest = make("erased", "always")
    guest.lxc("lxc-stop", "-k")
    guest.within(lambda: len(guest.jobs()) == 1 and guest.entry()[1] == "running", "it is started again", 5)
    running.run("ve", "stop", "erased", "--force", "--wait")
    shutil.move(home(running) / guest.native, home(running) / ".erased")
    guest.within(lambda: guest.shown()["status"] == "lost", "it is lost after two lists", 5)
    assert not (home(running) / guest.native).exists()
    shutil.rmtree(home(running) / ".erased")


def test_who_listens_is_killed_and_nothing_is_missed(running: Cloud, make: Callable[[str, str], Guest]) -> None:
    """liblxc's daemon, and the worker's child that hears it: both are there again at once and say what they find."""
    guest = make("deaf", "never")
    for pid in listeners(running):
        os.kill(pid, signal.SIGKILL)
    guest.lxc("lxc-stop", "-k")
    guest.seen("crashed")
    running.until(lambda: len(listeners(running)) == 2, 10, "both to be there again")
    guest.lxc("lxc-start")
    guest.seen("running")


def listeners(running: Cloud) -> list[int]:
    """lxc-monitord of the node's LXCPATH, and the worker's child that watches that folder."""
    found = []
    for process in (each for each in Path("/proc").iterdir() if each.name.isdigit()):
        try:
            daemon = f"lxc-monitord\0{home(running)}\0".encode() in (process / "cmdline").read_bytes()
            ours = str(running.data).encode() in (process / "environ").read_bytes()
            watches = ours and any(os.readlink(fd) == "anon_inode:inotify" for fd in (process / "fd").iterdir())  # noqa: PTH115
        except OSError:
            continue
        if daemon or watches:
            found.append(int(process.name))
    return found


def test_what_happened_while_the_broker_was_away_is_known_when_it_is_back(
    running: Cloud, make: Callable[[str, str], Guest]
) -> None:
    """A frozen broker may lose single words that were under way; tests/integration/test_worker.py shows the order of all."""
    guest = make("away", "never")
    running.signal("broker", signal.SIGSTOP)
    try:
        guest.lxc("lxc-stop", "-k")
        guest.lxc("lxc-start")
        time.sleep(4)  # longer than a broker is waited for: it counts as away
        guest.lxc("lxc-freeze")
    finally:
        running.signal("broker", signal.SIGCONT)
    running.until(lambda: guest.entry()[1] == "suspended", 30, "the last state to be known")
    guest.lxc("lxc-unfreeze")
    guest.seen("running")
