"""Programs and the console of real containers."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lxc_kit import BASE, BRIDGE, ROOT, SIZE, Node, eventually, make_node
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import BadRequest, Guest, NoSuchGuest
from workers.drivers.lxc import process
from workers.drivers.lxc.config import CONSOLE_BYTES
from workers.drivers.session import Session, read

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture(scope="module")
def guest(node: Node) -> Guest:
    """A guest that runs for all tests here."""
    guest = node.guest()
    node.driver.define(guest)
    node.driver.start(guest.native)
    assert eventually(lambda: b"ready" in node.driver.boot_log(guest.native))
    return guest


@pytest.fixture
def own(node: Node) -> Iterator[Guest]:
    """A running guest of one test."""
    guest = node.guest("own")
    node.driver.define(guest)
    node.driver.start(guest.native)
    yield guest
    node.driver.delete(guest.native)


def ran(node: Node, guest: Guest, *argv: str, given: bytes = b"", **environment: str) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of a program without terminal."""
    session = node.driver.exec(guest.native, argv, environment=environment, tty=False)
    if given:
        os.write(session.stdin, given)
    session.close_stdin()
    assert session.stderr is not None
    streams: dict[int, bytes] = {session.stdout: b"", session.stderr: b""}
    open_ones = set(streams)
    while open_ones:
        for descriptor in select.select(list(open_ones), [], [])[0]:
            data = read(descriptor)
            streams[descriptor] += data
            if not data:
                open_ones.discard(descriptor)
    return session.wait(), streams[session.stdout], streams[session.stderr]


def until(session: Session, wanted: bytes, seconds: float = 5.0) -> bytes:
    """What the session says until ``wanted`` is in it."""
    said, end = b"", time.monotonic() + seconds
    while wanted not in said:
        ready = select.select([session.stdout], [], [], max(0.0, end - time.monotonic()))[0]
        assert ready, f"only {said!r}"
        data = read(session.stdout)
        assert data, f"only {said!r}, then the end"
        said += data
    return said


def programs(word: str) -> list[int]:
    """Processes of the node, those in guests too, with this word on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


# ------------------------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 1"], 1),
        (["sh", "-c", "exit 255"], 255),
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["/etc"], 126),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "kill -SEGV $$"], 139),
    ],
)
def test_a_programs_exit_code_is_handed_on(node: Node, guest: Guest, argv: Sequence[str], code: int, tty: bool) -> None:
    session = node.driver.exec(guest.native, argv, environment={}, tty=tty)
    while read(session.stdout):
        pass
    assert session.wait() == code


def test_output_and_errors_are_apart_and_nothing_is_added(node: Node, guest: Guest) -> None:
    assert ran(node, guest, "sh", "-c", "echo out; echo err >&2; kill -KILL $$") == (137, b"out\n", b"err\n")


def test_every_byte_passes_and_the_end_of_input_is_seen(node: Node, guest: Guest) -> None:
    given = bytes(range(256)) * 200
    assert ran(node, guest, "cat", given=given) == (0, given, b"")
    assert ran(node, guest, "wc", "-c")[1].split() == [b"0"]


def test_a_megabyte_both_ways(node: Node, guest: Guest) -> None:
    code, out, _ = ran(node, guest, "sh", "-c", "head -c 3000000 /dev/zero | tee /dev/stderr")
    assert code == 0 and len(out) == 3000000


def test_arguments_arrive_unchanged(node: Node, guest: Guest) -> None:
    arguments = ["", "-v", "--", "a b", "$(id)", "`id`", "'\"\\", "*", "x\ny", "ü", ";", "&&"]
    code, out, _ = ran(node, guest, "printf", "%s\\0", *arguments)
    assert code == 0 and out.decode().split("\0")[:-1] == arguments


def test_the_environment_is_clean_and_what_was_given(node: Node, guest: Guest) -> None:
    out = ran(node, guest, "env", A="x y", B="", C="a=b", PATH="/bin")[1]
    lines = dict(line.split("=", 1) for line in out.decode().splitlines())
    assert lines == {
        "A": "x y",
        "B": "",
        "C": "a=b",
        "PATH": "/bin",
        "HOME": "/root",
        "USER": "root",
        "container": "lxc",
        "VMCLOUD_VE": str(guest.ve),
    }
    assert ran(node, guest, "sh", "-c", 'printf %s "$A"', A="one\ntwo")[1] == b"one\ntwo"


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A-B", "A\n", "A\0", "Ä"])
def test_a_name_that_no_variable_can_have_is_refused(node: Node, guest: Guest, name: str) -> None:
    with pytest.raises(BadRequest, match="environment variable"):
        node.driver.exec(guest.native, ["true"], environment={name: "x"}, tty=False)


def test_what_no_program_can_be_given_is_refused(node: Node, guest: Guest) -> None:
    for argv, environment in (([], {}), ([""], {}), (["echo", "a\0b"], {}), (["true"], {"A": "\0"}), (["x" * 200_000], {})):
        with pytest.raises(BadRequest):
            node.driver.exec(guest.native, argv, environment=environment, tty=False)
    assert not programs("lxc-attach")


def test_a_program_runs_in_the_guest_as_its_root_and_within_its_limits(node: Node, guest: Guest) -> None:
    assert ran(node, guest, "sh", "-c", "id -u; pwd; hostname; ls -l /proc/self/fd | wc -l")[1].split() == [
        b"0",
        b"/",
        b"web",
        b"5",  # a head line, the three streams and that of ls itself: nothing of ours is open in there
    ]
    session = node.driver.exec(guest.native, ["sleep", "7001"], environment={}, tty=False)
    names = lambda: {Path(f"/proc/{pid}/comm").read_text().strip(): pid for pid in programs("7001")}  # noqa: E731
    assert eventually(lambda: "sleep" in names())
    inner = names()["sleep"]
    assert f"lxc.payload.{guest.native}" in Path(f"/proc/{inner}/cgroup").read_text()
    assert f"Uid:\t{BASE}" in Path(f"/proc/{inner}/status").read_text()
    assert "Seccomp:\t2" in Path(f"/proc/{inner}/status").read_text()
    session.hang_up()


def test_a_terminal_has_a_size_and_hears_of_new_ones(node: Node, guest: Guest) -> None:
    session = node.driver.exec(guest.native, ["sh"], environment={}, tty=True)
    assert session.stderr is None
    until(session, b"/ # ")
    os.write(session.stdin, b"stty size; tty; echo $TERM\n")
    said = until(session, b"xterm")
    assert b"24 80" in said and b"/dev/pts/" in said
    session.resize(33, 101)
    os.write(session.stdin, b"stty size\n")
    until(session, b"33 101")
    os.write(session.stdin, b"exit 3\n")
    while read(session.stdout):
        pass
    assert session.wait() == 3


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("stubborn", [False, True])
def test_hanging_up_ends_the_program_and_what_came_of_it(node: Node, guest: Guest, tty: bool, stubborn: bool) -> None:
    script = f"{'trap : HUP TERM; ' if stubborn else ''}sleep 7002 & while :; do wait; done"
    session = node.driver.exec(guest.native, ["sh", "-c", script], environment={}, tty=tty)
    assert eventually(lambda: programs("7002"))
    begin = time.monotonic()
    session.hang_up()
    assert time.monotonic() - begin < 5
    assert eventually(lambda: not programs("7002") and not programs(script))
    session.hang_up()
    session.wait()


@pytest.mark.parametrize("tty", [False, True])
def test_a_program_ends_with_the_process_that_has_its_session(node: Node, guest: Guest, tty: bool) -> None:
    code = f"""
import sys, time
from pathlib import Path
from workers.drivers.lxc import LxcDriver, LxcSettings
driver = LxcDriver(LxcSettings(Path({str(node.home)!r}), {BRIDGE!r}, {BASE}, {SIZE}))
session = driver.exec({guest.native!r}, ["sh", "-c", "sleep 7003; true"], environment={{}}, tty={tty})
time.sleep(100)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, process_group=0)
    assert eventually(lambda: len(programs("7003")) == 1)
    os.killpg(holder.pid, 9)
    holder.wait()
    assert eventually(lambda: not programs("7003") and not programs("sleep 7003; true"))


def test_a_program_that_signals_its_group_reaches_nobody_else(node: Node) -> None:
    guest = node.guest("priv", privileged=True)
    node.driver.define(guest)
    node.driver.start(guest.native)
    assert ran(node, guest, "sh", "-c", "kill -KILL 0")[0] == 137
    node.driver.delete(guest.native)


def test_no_session_with_a_guest_that_cannot_answer(node: Node, own: Guest) -> None:
    driver = node.driver

    def both(error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            driver.exec(own.native, ["true"], environment={}, tty=False)
        with pytest.raises(error, match=words):
            driver.console(own.native)

    driver.freeze(own.native)
    both(BadRequest, "suspended.*Resume it first")
    driver.stop(own.native, force=True)
    both(BadRequest, "is stopped.*Start it first")
    driver.delete(own.native)
    both(NoSuchGuest, "no guest is called")


# -------------------------------------------------------------------------------------------------------------- console


def test_the_console_answers_one_person_at_a_time(node: Node, own: Guest) -> None:
    first = node.driver.console(own.native)
    os.write(first.stdin, b"\n")
    until(first, b"/ # ")
    os.write(first.stdin, b"echo x$((1+1))y\n")
    until(first, b"x2y")
    with pytest.raises(BadRequest, match="somebody else is at the console"):
        node.driver.console(own.native)
    first.hang_up()
    first.hang_up()
    assert first.wait() == 0
    second = node.driver.console(own.native)
    os.write(second.stdin, b"echo again\x01q$((2+2))\n")  # no byte is an escape
    until(second, b"4")
    second.hang_up()
    assert not programs("lxc-console")


def test_the_console_takes_sizes(node: Node, own: Guest) -> None:
    session = node.driver.console(own.native)
    session.resize(40, 120)
    os.write(session.stdin, b"\nstty size\n")
    until(session, b"40 120")
    node.driver.exec(
        own.native, ["sh", "-c", "umount /dev/console; ln -sf /dev/null /dev/console"], environment={}, tty=False
    ).wait()
    session.resize(50, 130)  # there is nothing to set it on
    session.hang_up()


def test_the_console_ends_with_the_guest_and_with_its_process(node: Node, own: Guest) -> None:
    session = node.driver.console(own.native)
    node.driver.stop(own.native, force=True)
    while read(session.stdout):
        pass
    assert session.wait() == 0
    node.driver.start(own.native)
    code = f"""
import time
from pathlib import Path
from workers.drivers.lxc import LxcDriver, LxcSettings
session = LxcDriver(LxcSettings(Path({str(node.home)!r}), {BRIDGE!r}, {BASE}, {SIZE})).console({own.native!r})
print("there", flush=True)
time.sleep(100)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, process_group=0)
    assert holder.stdout is not None and holder.stdout.readline() == b"there\n"
    os.killpg(holder.pid, 9)
    holder.communicate()
    assert eventually(lambda: not programs("lxc-console"))
    node.driver.console(own.native).hang_up()


def test_a_console_that_nobody_reads_blocks_neither_guest_nor_node(node: Node, own: Guest) -> None:
    session = node.driver.console(own.native)
    flood = node.driver.exec(
        own.native, ["sh", "-c", "yes flood | head -c 5000000 > /dev/console; echo over"], environment={}, tty=False
    )
    assert select.select([flood.stdout], [], [], 20)[0], "the guest is blocked by its console"
    begin = time.monotonic()
    assert process.look(node.driver.guests, own.native).state is Observed.RUNNING
    assert time.monotonic() - begin < 1
    said = until(session, b"some output was lost")
    assert said
    session.hang_up()
    assert len(node.driver.boot_log(own.native)) <= CONSOLE_BYTES
    assert sum(path.stat().st_size for path in node.folder(own).glob("console.log*")) < 1 << 20


def test_the_boot_log_is_that_of_the_last_start_and_outlives_it(node: Node, own: Guest) -> None:
    driver = node.driver
    assert eventually(lambda: b"ready" in driver.boot_log(own.native))
    driver.exec(own.native, ["sh", "-c", "echo first run > /dev/console"], environment={}, tty=False).wait()
    assert eventually(lambda: b"first run" in driver.boot_log(own.native))
    driver.stop(own.native)
    assert b"halts" in driver.boot_log(own.native)
    driver.start(own.native)
    assert eventually(lambda: b"ready" in driver.boot_log(own.native))
    assert b"first run" not in driver.boot_log(own.native)
    driver.stop(own.native, force=True)
    (node.folder(own) / "console.log").write_bytes(b"old" + b"x" * CONSOLE_BYTES)
    assert driver.boot_log(own.native) == b"x" * CONSOLE_BYTES
    with pytest.raises(NoSuchGuest):
        driver.boot_log("nobody-00000000")
