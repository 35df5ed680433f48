"""The processes of a guest: its state, its init, and liblxc's monitor process that holds it."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import CannotLook, Unsupported

from .cgroups import Groups

try:
    import lxc
except ImportError:  # preflight and fingerprint say so; the rest of the package stays usable without it
    lxc = None

STATES = {
    "STOPPED": Observed.STOPPED,
    "STARTING": Observed.STARTING,
    "RUNNING": Observed.RUNNING,
    "STOPPING": Observed.STOPPING,
    "ABORTING": Observed.STOPPING,
    "FREEZING": Observed.RUNNING,
    "FROZEN": Observed.SUSPENDED,
    "THAWED": Observed.RUNNING,
}

SYSTEMD_HALT = signal.SIGRTMIN + 3


LIFE = "life"
"""The file in a guest's folder with the processes that it was last seen to run by."""


@dataclass(frozen=True)
class Life:
    """A guest's power now. ``init`` and ``monitor`` are process ids on the node, 0 where there is none; ``began`` is when init
    began, in clock ticks since the boot."""

    state: Observed
    init: int = 0
    monitor: int = 0
    began: int = 0

    @property
    def since(self) -> float:
        """When init began, in seconds since the epoch."""
        return _booted(int(time.monotonic()) // 60) + self.began / os.sysconf("SC_CLK_TCK")

    @cached_property
    def groups(self) -> Groups:
        """The control groups of init. Raises :class:`CannotLook` where it has ended."""
        return Groups(self.init)


@lru_cache(maxsize=1)
def _booted(minute: int) -> int:
    """When the machine was booted, as a clock that may be set has it: read again every minute."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return 0


def look(guests: Path, native: str) -> Life:
    """The guest's power. A guest whose init is dead is not running, whatever liblxc says.

    Raises :class:`CannotLook` where liblxc gives no answer.
    """
    if lxc is None:
        raise CannotLook("list", "the Python binding of liblxc is missing", todo="pip install lxc==3.0.4.0 (needs lxc-dev).")
    try:
        container = _container(native, str(guests))
        word = str(container.state)
        init = int(container.init_pid) if word != "STOPPED" else 0
    except Exception as error:
        raise CannotLook("list", f"liblxc cannot tell the state of {native}: {error}") from error
    state = STATES.get(word)
    if state is None:
        raise CannotLook("list", f"liblxc says {word!r} of {native}")
    if state is Observed.STOPPED:
        return Life(state)
    parent, began = _parent(init) if init > 0 else (0, 0)
    if not parent:
        return Life(Observed.STARTING if state is Observed.STARTING else Observed.STOPPING)
    life = Life(state, init, parent, began)
    # liblxc knows only of freezes that it ordered itself.
    return _perhaps_frozen(life) if state is Observed.RUNNING else life


@lru_cache(maxsize=1)
def _container(native: str, guests: str) -> Any:
    """The binding's object: it reads the whole configuration when it is made, of which nothing is used here. State and process
    ids it asks of the guest's monitor process, each time anew."""
    return lxc.Container(native, guests)


def holder(guests: Path, native: str) -> int:
    """The monitor process of a guest that runs, for one question to liblxc; 0 where it tells none."""
    try:
        init = int(_container(native, str(guests)).init_pid)
    except Exception:
        return 0
    return _parent(init)[0] if init > 0 else 0


def remember(guests: Path, native: str, life: Life) -> None:
    """Keep for :func:`recall` by which processes a guest of ours runs."""
    if not life.init:
        return
    # Others read it at any moment, and write it too: one that lists, one that hears events, one that starts.
    new = guests / native / f".{LIFE}.{threading.get_native_id()}"
    try:
        new.write_text(f"{life.init} {life.monitor} {life.began}")
        new.replace(guests / native / LIFE)
    except OSError:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def recall(guests: Path, native: str) -> Life | None:
    """The guest's power where it still runs by the same processes as when liblxc was last asked; None where liblxc must be
    asked, which wakes the guest's monitor process twice. A node with hundreds of guests is looked at often."""
    init, parent, began = _remembered(guests, native)
    life = Life(Observed.RUNNING, init, parent, began)
    try:
        # The group's name makes sure that it is not another process of the same number, such as one of after a boot.
        if not init or _parent(init) != (parent, began) or not life.groups.of(native):
            return None
    except CannotLook:
        return None
    return _perhaps_frozen(life)


def last_init(guests: Path, native: str) -> int:
    """The process id of the guest's last init that was seen; 0 where none was."""
    return _remembered(guests, native)[0]


def held(guests: Path, native: str) -> bool:
    """Whether the monitor process by which the guest was last seen to run lives on, as it does while a guest reboots."""
    try:
        line = Path(f"/proc/{_remembered(guests, native)[1]}/cmdline").read_bytes()
    except OSError:
        return False
    return line.rstrip(b"\0") == _title(guests, native)


def _remembered(guests: Path, native: str) -> tuple[int, int, int]:
    try:
        init, parent, began = map(int, (guests / native / LIFE).read_text().split())
    except (OSError, ValueError):
        return 0, 0, 0
    return init, parent, began


def _title(guests: Path, native: str) -> bytes:
    """What liblxc calls its monitor process."""
    return f"[lxc monitor] {guests} {native}".encode()


def _perhaps_frozen(life: Life) -> Life:
    try:
        return replace(life, state=Observed.SUSPENDED) if life.groups.frozen else life
    except CannotLook:
        return life


def _parent(pid: int) -> tuple[int, int]:
    """The parent of a living process and when that began, in ticks since the boot (proc(5), fields 4 and 22 of stat); zeros if it
    is dead or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0
    return (0, 0) if fields[0] in "ZX" else (int(fields[1]), int(fields[19]))


def end_monitors(guests: Path, native: str) -> int:
    """Kill what starts or holds the guest without coming to an end, lxc-start and liblxc's monitor process; says how many there
    were. The kernel ends the guest with its monitor process."""
    monitor = _title(guests, native)
    starting = {str(guests).encode(), native.encode()}
    found = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            with Handle(int(entry.name)) as handle:
                line = (entry / "cmdline").read_bytes()
                words = line.split(b"\0")
                if line.rstrip(b"\0") == monitor or (starting <= set(words) and any(w.endswith(b"lxc-start") for w in words[:2])):
                    handle.send(signal.SIGKILL)
                    handle.wait(1.0)
                    found += 1
        except OSError:
            continue
    return found


class Handle:
    """A process held by a descriptor, so that its number cannot come to mean another. Use as a context manager."""

    def __init__(self, pid: int) -> None:
        try:
            self._fd = os.pidfd_open(pid) if pid > 0 else -1
        except ProcessLookupError:
            self._fd = -1
        except OSError as error:
            raise Unsupported("stop", f"this kernel has no process descriptors: {error.strerror}") from error

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def send(self, number: int) -> None:
        """Send a signal; a dead process is no error."""
        if self._fd >= 0:
            try:
                signal.pidfd_send_signal(self._fd, number)
            except ProcessLookupError:
                pass

    def wait(self, seconds: float) -> bool:
        """Whether the process is dead within that time."""
        if self._fd < 0:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))


def halt_signal(init: int) -> int:
    """What asks this init to shut down: systemd blocks SIGRTMIN+3 in order to read it, others take SIGPWR (as liblxc does)."""
    try:
        for line in Path(f"/proc/{init}/status").read_text().splitlines():
            if line.startswith("SigBlk:"):
                blocked = int(line.split()[1], 16)
                return SYSTEMD_HALT if blocked >> (SYSTEMD_HALT - 1) & 1 else signal.SIGPWR
    except OSError:
        pass
    return signal.SIGPWR
