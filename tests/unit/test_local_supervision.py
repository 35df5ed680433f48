"""The supervisor with real, harmless processes; and its pure parts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vmcloud.config import Keep
from vmcloud.domain.errors import Invalid
from vmcloud.local import combined, parts, process, report, status
from vmcloud.local.backoff import HEALTHY, LONGEST, Backoff
from vmcloud.local.child import in_words
from vmcloud.local.parts import Part, choose, select
from vmcloud.local.ready import Finishes, Lasts, Line, Progress, Ready
from vmcloud.local.supervisor import Supervisor

pytestmark = pytest.mark.unit


def part(name: str, code: str, ready: Ready, depends_on: tuple[str, ...] = (), grace: float = 5.0) -> Part:
    return Part(name, (sys.executable, "-c", code), "root", ready, depends_on, dict(os.environ), grace)


SLEEPS = "print('here', flush=True); import time; time.sleep(100)"


class Running:
    """A supervisor in a process of its own, as in real life."""

    def __init__(self, data: Path, made: list[Part]) -> None:
        self.data = data
        for name in ("run", "log"):
            (data / name).mkdir()
        self.pid = os.fork()
        if self.pid == 0:
            log = combined.CombinedLog(data / "log" / "vmcloud.log")
            Supervisor(made, data, log).run()
            os._exit(0)

    def until(
        self, condition: Callable[[dict[str, status.PartStatus]], bool], timeout: float = 10.0
    ) -> dict[str, status.PartStatus]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = status.read(self.data)
            table = {each.name: each for each in found.parts} if found else {}
            if table and condition(table):
                return table
            time.sleep(0.01)
        raise AssertionError(f"never so; the log:\n{self.log}")

    @property
    def log(self) -> str:
        return (self.data / "log" / "vmcloud.log").read_text()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> None:
        os.waitpid(self.pid, 0)
        self.pid = 0


def stopped(running: Running) -> None:
    running.signal(signal.SIGTERM)
    running.wait()


def test_parts_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    running = Running(
        tmp_path,
        [
            part("base", SLEEPS, Line("here")),
            part("once", "print('did it')", Finishes(), ("base",)),
            part("top", SLEEPS, Lasts(0.1), ("once",)),
        ],
    )
    table = running.until(lambda parts: all(each.up for each in parts.values()))
    assert [table[name].state for name in ("base", "once", "top")] == ["ready", "done", "ready"]
    stopped(running)
    log = running.log
    order = [log.index(text) for text in ("base: ready", "once: done", "top: ready", "top: stopped", "base: stopped")]
    assert order == sorted(order)
    assert "once      | did it" in log
    found = status.read(tmp_path)
    assert found is not None
    assert not found.running


def test_a_killed_part_is_started_again_and_status_says_so(tmp_path: Path) -> None:
    running = Running(tmp_path, [part("a", SLEEPS, Line("here"))])
    first = running.until(lambda parts: parts["a"].up)["a"]
    os.kill(first.pid, signal.SIGKILL)
    second = running.until(lambda parts: parts["a"].up and parts["a"].restarts == 1)["a"]
    assert second.pid != first.pid
    assert second.last_exit == "killed by SIGKILL"
    stopped(running)


def test_a_part_that_can_not_run_waits_longer_each_time(tmp_path: Path) -> None:
    running = Running(tmp_path, [part("bad", "raise SystemExit(3)", Lasts(5)), part("later", SLEEPS, Lasts(0), ("bad",))])
    table = running.until(lambda parts: parts["bad"].restarts >= 2)
    assert table["bad"].problem
    assert table["bad"].last_exit == "exit code 3"
    assert table["later"].state == "waiting"
    assert table["later"].why == "waits for bad"
    stopped(running)


def test_a_program_that_is_not_there_is_no_end_of_the_supervisor(tmp_path: Path) -> None:
    running = Running(tmp_path, [Part("ghost", ("/nonexistent",), "root", Lasts(1))])
    table = running.until(lambda parts: bool(parts["ghost"].last_exit))
    assert table["ghost"].last_exit.startswith("could not be started")
    stopped(running)


def test_a_part_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(100)"
    running = Running(tmp_path, [part("mule", stubborn, Line("here"), grace=0.3)])
    running.until(lambda parts: parts["mule"].up)
    begin = time.monotonic()
    stopped(running)
    assert time.monotonic() - begin < 3
    assert "killed by SIGKILL" in running.log


def test_parts_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    running = Running(tmp_path, [part("a", SLEEPS, Line("here"))])
    ident = running.until(lambda parts: parts["a"].up)["a"].ident
    assert ident is not None
    running.signal(signal.SIGKILL)
    running.wait()
    assert process.wait_gone([ident], 5.0)


def test_what_a_dead_part_left_in_its_group_goes_too(tmp_path: Path) -> None:
    parent = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]); print('pid', p.pid, flush=True); "
    )
    running = Running(tmp_path, [part("a", parent + "import time; time.sleep(100)", Line("pid"))])
    table = running.until(lambda parts: parts["a"].up)
    child = process.ident(int(running.log.split("| pid ")[1].split()[0]))
    assert child is not None
    os.kill(table["a"].pid, signal.SIGKILL)
    assert process.wait_gone([child], 5.0)
    stopped(running)


def test_an_idle_supervisor_sleeps(tmp_path: Path) -> None:
    running = Running(tmp_path, [part("a", SLEEPS, Line("here"))])
    running.until(lambda parts: parts["a"].up)

    def switches() -> int:
        lines = Path(f"/proc/{running.pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

    time.sleep(0.2)
    before = switches()
    time.sleep(1.5)
    assert switches() - before <= 2
    stopped(running)


@pytest.mark.parametrize(("failures", "delay"), [(0, 0.0), (1, 0.2), (2, 0.4), (5, 3.2), (9, LONGEST), (5000, LONGEST)])
def test_backoff_doubles_up_to_its_limit(failures: int, delay: float) -> None:
    assert Backoff(failures).delay == pytest.approx(delay)


def test_a_healthy_time_makes_the_past_forgotten() -> None:
    tired = Backoff(7)
    assert tired.after_end(HEALTHY + 1).failures == 1
    assert tired.after_end(HEALTHY - 1).failures == 8


def test_only_and_without_choose_parts_in_order() -> None:
    assert choose(("worker", "broker"), ()) == ["broker", "worker"]
    assert choose((), ("prepare", "web", "server")) == ["broker", "directory", "monitor", "worker"]
    for only, without in ((("x",), ()), ((), ("x",)), (("web",), ("web",)), ((), parts.NAMES)):
        with pytest.raises(Invalid):
            choose(only, without)


def test_a_part_left_out_hands_on_what_it_waited_for() -> None:
    table = {
        "broker": part("broker", "", Lasts(0)),
        "directory": part("directory", "", Lasts(0)),
        "prepare": part("prepare", "", Finishes(), ("broker", "directory")),
        "web": part("web", "", Lasts(0), ("prepare",)),
    }
    assert [(each.name, each.depends_on) for each in select(table, ["web", "broker"])] == [("broker", ()), ("web", ("broker",))]


def test_lines_are_cut_and_the_rest_is_kept() -> None:
    lines = combined.Lines()
    assert lines.feed(b"one\r\ntw") == ["one"]
    assert lines.feed(b"o\n\xff\n\n") == ["two", "\ufffd"]
    assert lines.feed(b"rest") == []
    assert lines.feed(b"") == ["rest"]
    assert [len(line) for line in lines.feed(b"x" * 40000)] == [40000]


def test_the_log_is_turned_over_by_size(tmp_path: Path) -> None:
    log = combined.CombinedLog(tmp_path / "vmcloud.log", Keep(log_mib=1, log_files=2))
    for _ in range(60):
        log.write("web", "x" * 65536)
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["vmcloud.log", "vmcloud.log.1", "vmcloud.log.2"]
    assert all(file.stat().st_size < 1.1 * (1 << 20) for file in tmp_path.iterdir())


def test_tail_finds_the_lines_of_one_part(tmp_path: Path) -> None:
    log = combined.CombinedLog(tmp_path / "l")
    for name in ("web", "server", "web"):
        log.write(name, f"from {name}")
    assert len(combined.tail(tmp_path / "l", "web", 5)) == 2
    assert len(combined.tail(tmp_path / "l", "", 1)) == 1
    assert combined.tail(tmp_path / "none", "web", 5) == []


def test_process_names_may_hold_anything() -> None:
    text = "77 (a) S) R (x) S 1 77 77 0 -1 4194304 1 1 0 0 5 5 0 0 20 0 1 0 4711 1000 1 18446744073709551615"
    assert process.parse_stat(text) == ("S", 77, 4711)


def test_a_reused_process_id_is_not_taken_for_the_old_process() -> None:
    me = process.ident(os.getpid())
    assert me is not None
    assert me.alive
    assert not process.Ident(me.pid, me.started - 1).alive


def test_processes_of_a_session_are_known_by_their_environment() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True, env={"VMCLOUD_DATA": "/x/y"}
    )
    try:
        deadline = time.monotonic() + 5
        found: list[process.Ident] = []
        while not found and time.monotonic() < deadline:
            found = process.session_members(child.pid, marker=b"VMCLOUD_DATA=/x/y")
        assert [each.pid for each in found] == [child.pid]
        assert process.session_members(child.pid, marker=b"VMCLOUD_DATA=/x") == []
        threading.Thread(target=child.wait).start()
        assert process.end(found, grace=5.0)
    finally:
        child.kill()


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_ends_are_told_in_words(code: int, words: str) -> None:
    assert in_words(code) == words


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59.9, "59s"), (187, "3m07s"), (18120, "5h02m"), (1047600, "12d03h")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_readiness_by_line_and_by_age() -> None:
    assert Line("x").check(Progress(alive=0, line_seen=True))
    assert not Lasts(2).check(Progress(alive=1.9, line_seen=True))
    assert not Finishes().check(Progress(alive=100, line_seen=True))
