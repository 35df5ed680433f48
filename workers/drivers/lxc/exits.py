"""How a guest's last run ended, from liblxc's log of it: pure.

The log outlives the worker, so a guest that crashed while nobody listened is still known as crashed. Words from lxc 5.0
(src/lxc/error.c, start.c).
"""

from __future__ import annotations

import os
import re
from enum import Enum

_STARTED = re.compile(r'Started "[^\n]*" with pid(?: "(\d+)")?')
_SIGNAL = re.compile(r"Child <\d+> ended on signal [^\n(]*\((\d+)\)")
_STATUS = re.compile(r"Child <\d+> ended on error \((\d+)\)")
_EXITED = re.compile(r"Container init process \d+ exited")

SIGHUP, SIGINT = 1, 2
NOT_BACK = "it rebooted and did not come up again"
NO_TRACE = "it ended without a trace (power cut, or its monitor process was killed)"


class End(Enum):
    """``CLEAN``: init ended by itself with success, or reboot(2) halted the guest (the kernel shows that as SIGINT). ``REBOOT``:
    it is to start again (the kernel shows SIGHUP), by the same monitor process. ``CRASHED``: init was killed or failed. ``CUT``:
    the log just stops, as after a power cut. ``NONE``: it says nothing: the guest never ran, or the log was emptied while it did
    (:data:`~workers.drivers.lxc.driver.LOG_MAX`)."""

    NONE = "none"
    CLEAN = "clean"
    REBOOT = "reboot"
    CRASHED = "crashed"
    CUT = "cut"


def how(log: str) -> tuple[End, str]:
    """The end of the last run in ``log`` and a sentence about it (empty where it is clean). A reboot whose next start is in
    the log is none: that start's end counts."""
    starts = list(_STARTED.finditer(log))
    last = log[starts[-1].end() :] if starts else log
    if found := _last(_SIGNAL, last):
        number = int(found[1])
        if number == SIGHUP:
            return End.REBOOT, NOT_BACK
        if number == SIGINT:
            return End.CLEAN, ""
        return End.CRASHED, f"init was killed by signal {number}"
    if found := _last(_STATUS, last):
        return End.CRASHED, f"init failed with exit code {found[1]}"
    if _EXITED.search(last):
        return End.CLEAN, ""
    return (End.CUT, NO_TRACE) if starts else (End.NONE, "")


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(reversed(list(pattern.finditer(text))), None)


def tells_of(log: str, init: int) -> bool:
    """Whether ``log`` tells of a run whose init had this process id."""
    return any(int(start[1] or 0) == init for start in _STARTED.finditer(log))


def words(init: int, status: int) -> str:
    """What liblxc's log of a run says of its end, for a run that was logged elsewhere. ``status`` is as wait(2) has it."""
    code = os.waitstatus_to_exitcode(status)
    end = f"Child <{init}> ended on signal ({-code})" if code < 0 else f"Child <{init}> ended on error ({code})"
    end = end if code else f"Container init process {init} exited"
    return f'vmcloud - Started "init" with pid "{init}"\nvmcloud - {end}\n'


def errors(log: str, maximum: int = 600) -> str:
    """The messages of liblxc's ERROR lines, last ones kept."""
    lines = [line.split(" ERROR ", 1)[1].strip() for line in log.splitlines() if " ERROR " in line]
    texts = [line.partition(" - ")[2].partition(" - ")[2] or line for line in lines]
    return "; ".join(texts)[-maximum:]
