"""Talking to guests: programs run in them, and their consoles."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import Guest
from workers.drivers.session import Session, read

from .bench import Bench

SECONDS = 10.0


@dataclass(frozen=True)
class Said:
    """How a program ended and what it said."""

    code: int
    out: bytes
    err: bytes


def state(bench: Bench, guest: Guest) -> Observed | None:
    """The guest's state, None if there is no such guest."""
    seen = bench.driver.inspect(guest.native)
    return seen.state if seen is not None else None


def found(bench: Bench, guest: Guest) -> Seen:
    """The guest as its driver sees it."""
    seen: Seen | None = bench.driver.inspect(guest.native)
    assert seen is not None
    return seen


def boot(bench: Bench, guest: Guest) -> None:
    """Start a guest, and believe that it runs only when it answers."""
    bench.driver.start(guest.native)
    check_runs(bench, guest)


def check_runs(bench: Bench, guest: Guest) -> None:
    """The guest is seen running and answers on its console with its name."""
    assert state(bench, guest) is Observed.RUNNING
    console = bench.driver.console(guest.native)
    name = guest.native.rpartition("-")[0].encode()
    try:
        assert hear(console, b"\n" + name, say=b"\nhostname\n"), "the console does not answer"
    finally:
        hang_up(console)


def hear(session: Session, wanted: bytes, *, say: bytes = b"", seconds: float = SECONDS) -> bytes:
    """All that is heard up to ``wanted``; empty if it does not come in time. ``say`` is said again until then."""
    heard, end, again = b"", time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        if say and time.monotonic() > again:
            os.write(session.stdin, say)
            again = time.monotonic() + 0.1
        if select.select([session.stdout], [], [], 0.05)[0]:
            data = read(session.stdout)
            if not data:
                break
            heard += data
            if wanted in heard.replace(b"\r\n", b"\n"):
                return heard
    return b""


def run(
    bench: Bench,
    guest: Guest,
    *argv: str,
    stdin: bytes | None = b"",
    environment: Mapping[str, str] | None = None,
    tty: bool = False,
) -> Said:
    """Run a program in a guest to its end. ``stdin`` None leaves its input open."""
    return finish(bench.driver.exec(guest.native, argv, environment=environment or {}, tty=tty), stdin)


def shell(bench: Bench, guest: Guest, line: str, stdin: bytes = b"") -> bytes:
    """What a line for the guest's shell says; it must succeed."""
    said = run(bench, guest, "sh", "-c", line, stdin=stdin)
    assert said.code == 0, said
    return said.out


def finish(session: Session, stdin: bytes | None = b"") -> Said:
    """Say ``stdin``, hear everything until the end."""

    def say() -> None:
        assert stdin is not None
        data = stdin
        with suppress(OSError):  # a program that does not read ends before it has all
            while data:
                data = data[os.write(session.stdin, data) :]
        session.close_stdin()

    saying = threading.Thread(target=say, daemon=True)
    if stdin is not None:
        saying.start()
    heard: dict[int, bytes] = {session.stdout: b""}
    if session.stderr is not None:
        heard[session.stderr] = b""
    open_ones, end = set(heard), time.monotonic() + SECONDS
    try:
        while open_ones:
            ready = select.select(list(open_ones), [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, f"the program did not end; so far: {heard}"
            for descriptor in ready:
                data = read(descriptor)
                heard[descriptor] += data
                if not data:
                    open_ones.remove(descriptor)
        return Said(ended(session), heard[session.stdout], heard.get(session.stderr or -1, b""))
    finally:
        session.hang_up()
        if stdin is not None:
            saying.join()  # it closes a descriptor, whose number must not be another's by then
        session.close()


def ended(session: Session, seconds: float = SECONDS) -> int:
    """The exit code; fails if it has not ended in time."""
    codes: list[int] = []
    waiting = threading.Thread(target=lambda: codes.append(session.wait()), daemon=True)
    waiting.start()
    waiting.join(seconds)
    assert codes, "the program did not end"
    return codes[0]


def hang_up(session: Session) -> None:
    """End it and close its ends."""
    session.hang_up()
    session.close()


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


__all__ = ["Said", "boot", "check_runs", "ended", "eventually", "finish", "found", "hang_up", "hear", "run", "shell", "state"]
