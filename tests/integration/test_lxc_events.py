"""Every change of real containers is heard, whoever makes it, without a look at all of them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.lxc_kit import Node, eventually, inside, make_node
from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import CannotLook, Gone, Guest
from workers.drivers.lxc import LxcDriver, monitor, process
from workers.drivers.lxc.driver import PAUSE, QUICK_LOSSES
from workers.drivers.lxc.ears import Ears, Ended
from workers.drivers.lxc.power import LXC_PATH

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

WITHIN = 1.0


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture
def running(node: Node) -> Iterator[Guest]:
    guest = node.guest("web")
    node.driver.define(guest)
    node.driver.start(guest.native)
    # One whose init answers is through with its boot: what asks it to reboot is not lost.
    assert eventually(lambda: inside(node, guest.native, "true") == "")
    yield guest
    node.driver.delete(guest.native)


class Hearing:
    """What one driver's events say of one guest. Like a worker it begins anew where they are lost, unless ``once``."""

    def __init__(self, node: Node, native: str, *, once: bool = False) -> None:
        self._driver, self._native, self._once = LxcDriver(node.driver.settings), native, once
        self.said: list[tuple[float, Seen | Gone]] = []
        self.lost: list[CannotLook] = []
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._ready.wait(10)
        self.said.clear()

    def _listen(self) -> None:
        while not (self._once and self.lost):
            try:
                for said in self._driver.events():
                    if said.native == self._native:
                        self.said.append((time.monotonic(), said))
                    self._ready.set()
            except CannotLook as error:
                self.lost.append(error)
                time.sleep(0.05)

    @property
    def states(self) -> list[str]:
        """What was said, without repetitions."""
        words: list[str] = []
        for _, said in list(self.said):
            word = "gone" if isinstance(said, Gone) else said.state.value
            words += [word] if words[-1:] != [word] else []
        return words

    @property
    def last(self) -> Seen:
        """The last state said."""
        return next(said for _, said in reversed(self.said) if isinstance(said, Seen))

    @contextmanager
    def hears(self, *words: str) -> Iterator[None]:
        """What is done in here leads to one of ``words`` being said last, in time."""
        yield
        began = time.monotonic()
        assert eventually(lambda: self.states[-1:] and self.states[-1] in words, 5.0), self.said
        assert time.monotonic() - began < WITHIN


def lxc(node: Node, tool: str, native: str, *more: str) -> None:
    path = LXC_PATH if tool == "lxc-start" else os.environ["PATH"]
    argv = [shutil.which(tool) or tool, "-P", str(node.driver.guests), "-n", native, *more]
    subprocess.run(argv, check=True, timeout=30, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": path})


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_container_that_is_made_started_stopped_and_removed_by_hand_is_heard_of(node: Node) -> None:
    anyone = node.guest("any")  # so that there is somebody to say first
    node.driver.define(anyone)
    hearing = Hearing(node, "theirs")
    with hearing.hears("stopped"):
        lxc(node, "lxc-create", "theirs", "-t", "busybox", "-f", "/dev/null")
    assert hearing.last.ve is None
    with hearing.hears("running"):
        lxc(node, "lxc-start", "theirs")
    with hearing.hears("stopped"):
        lxc(node, "lxc-stop", "theirs", "-k")
    with hearing.hears("gone"):
        lxc(node, "lxc-destroy", "theirs")
    node.driver.delete(anyone.native)


def test_a_folder_that_is_moved_in_or_away_whole_is_heard_of(node: Node, running: Guest, place: Path) -> None:
    hearing = Hearing(node, "moved")
    made = node.driver.guests / ".made"
    made.mkdir()
    (made / "config").write_text("lxc.uts.name = moved\n")
    with hearing.hears("stopped"):
        made.rename(node.driver.guests / "moved")
    with hearing.hears("gone"):
        shutil.move(node.driver.guests / "moved", place / "moved")


@pytest.mark.parametrize("who", ["init", "monitor"])
def test_a_guest_whose_processes_are_killed_is_heard_to_have_crashed(node: Node, running: Guest, who: str) -> None:
    hearing = Hearing(node, running.native)
    life = process.look(node.driver.guests, running.native)
    with hearing.hears("crashed"):
        kill(life.init if who == "init" else life.monitor)
    assert "signal 9" in hearing.last.error if who == "init" else "without a trace" in hearing.last.error
    with hearing.hears("running"):
        node.driver.start(running.native)
    with hearing.hears("crashed"):  # that one is held, too
        kill(process.look(node.driver.guests, running.native).monitor)


def test_a_foreign_guest_whose_monitor_process_is_killed_is_heard_to_have_stopped(node: Node, running: Guest) -> None:
    marker = node.folder(running) / "vmcloud.json"
    content = marker.read_bytes()
    marker.unlink()
    try:
        hearing = Hearing(node, running.native)
        with hearing.hears("stopped"):
            kill(process.look(node.driver.guests, running.native).monitor)
    finally:
        marker.write_bytes(content)


def test_a_reboot_is_never_heard_as_an_end(node: Node, running: Guest) -> None:
    hearing = Hearing(node, running.native)
    before = process.look(node.driver.guests, running.native).init
    with suppress(subprocess.CalledProcessError):  # the reboot may end the command before it is done
        inside(node, running.native, "reboot", "-f")
    assert eventually(lambda: process.look(node.driver.guests, running.native).init not in (0, before), 10)
    assert eventually(lambda: hearing.states[-1:] == ["running"], WITHIN), hearing.states
    assert set(hearing.states) <= {"stopping", "starting", "running"}, hearing.said
    assert hearing.states[0] == "stopping"


def test_a_shutdown_from_inside_is_heard_as_one(node: Node, running: Guest) -> None:
    hearing = Hearing(node, running.native)
    inside(node, running.native, "poweroff")
    assert eventually(lambda: hearing.states[-1:] == ["stopped"], 10), hearing.said
    assert not hearing.last.error


def test_freezing_and_thawing_by_hand_is_heard(node: Node, running: Guest) -> None:
    hearing = Hearing(node, running.native)
    with hearing.hears("suspended"):
        lxc(node, "lxc-freeze", running.native)
    with hearing.hears("running"):
        lxc(node, "lxc-unfreeze", running.native)


def ends_by_poweroff(node: Node, guest: Guest) -> None:
    inside(node, guest.native, "poweroff")


def ends_by_kill(node: Node, guest: Guest) -> None:
    kill(process.look(node.driver.guests, guest.native).init)


@pytest.mark.parametrize(("end", "word"), [(ends_by_poweroff, "stopped"), (ends_by_kill, "crashed")])
def test_how_a_run_ended_that_was_begun_by_hand_is_known_too(
    node: Node, running: Guest, end: Callable[[Node, Guest], None], word: str
) -> None:
    """Its log is elsewhere; what our log says is of an earlier run, which ended the other way."""
    hearing = Hearing(node, running.native)
    (ends_by_kill if word == "stopped" else ends_by_poweroff)(node, running)
    assert eventually(lambda: hearing.states[-1:] == ["crashed" if word == "stopped" else "stopped"], 10), hearing.said
    with hearing.hears("running"):
        lxc(node, "lxc-start", running.native)
    assert eventually(lambda: inside(node, running.native, "true") == "")
    end(node, running)
    assert eventually(lambda: hearing.states[-1:] == [word], 10), hearing.said
    seen = node.driver.inspect(running.native)
    assert seen is not None and seen.state.value == word, "a look says the same"


def test_the_loss_of_the_daemon_is_made_good_at_once(node: Node, running: Guest) -> None:
    hearing = Hearing(node, running.native)
    daemons = subprocess.run(["pgrep", "-f", f"lxc-monitord {node.driver.guests}"], capture_output=True, text=True, check=False)
    with hearing.hears("running"):
        subprocess.run(["kill", "-9", *daemons.stdout.split()], check=True)
    with hearing.hears("stopped"):
        node.driver.stop(running.native, force=True)


def test_a_daemon_that_does_not_live_is_no_busy_loop(node: Node, running: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[float] = []
    real = monitor.connect

    def connect(lxcpath: Path, timeout: float = 5.0) -> object:
        begun.append(time.monotonic())
        made = real(lxcpath, timeout)
        made.shutdown(2)
        return made

    monkeypatch.setattr(monitor, "connect", connect)
    hearing = Hearing(node, running.native, once=True)
    assert eventually(lambda: hearing.lost)
    assert len(begun) == QUICK_LOSSES + 1
    assert begun[-1] - begun[0] > PAUSE


def test_two_hundred_held_processes_cost_nothing_while_nothing_happens(node: Node) -> None:
    """One descriptor each, and no processor time."""
    sleepers = [subprocess.Popen(["sleep", "100"]) for _ in range(200)]
    try:
        with Ears(node.driver.guests) as ears:
            for number, sleeper in enumerate(sleepers):
                ears.hold(f"g{number}", sleeper.pid)
            before = resource.getrusage(resource.RUSAGE_THREAD)
            later = threading.Timer(1.0, sleepers[123].kill)
            later.start()
            assert next(ears.hear()) == Ended("g123")
            after = resource.getrusage(resource.RUSAGE_THREAD)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.01
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


def test_no_descriptor_is_left_behind(node: Node, running: Guest) -> None:
    """Counted in a process of its own: in this one those who listen for other tests come and go."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(_left_behind(node, running))
        except BaseException:
            os._exit(100)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Observed.RUNNING is process.look(node.driver.guests, running.native).state


def _left_behind(node: Node, running: Guest) -> int:
    """How many more descriptors are open after some have listened and ended."""

    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = opened()
    for _ in range(3):
        with Ears(node.driver.guests) as ears:
            ears.connect()
            ears.connect()
            ears.hold("a", os.getpid())
            ears.hold("a", os.getppid())
            ears.hold("a", 0)
            ears.hold("b", process.look(node.driver.guests, running.native).monitor)
    return opened() - before
