"""One supervised process: starting it, knowing it, ending it and all it left in its session."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .parts import Part
from .process import Ident, ident

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38


@dataclass
class Child:
    """A started part. ``output`` is the reading end of its standard output and error."""

    part: Part
    process: subprocess.Popen[bytes]
    ident: Ident
    output: int

    @classmethod
    def start(cls, part: Part, folder: Path) -> Child:
        """Start ``part`` in ``folder`` in a session of its own. OSError where it can not be started."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            process = subprocess.Popen(
                part.argv,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=dict(part.env),
                cwd=folder,
                start_new_session=True,
                preexec_fn=_before_exec(os.getpid(), part),  # noqa: PLW1509 - one thread
                umask=0o022,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        return cls(part=part, process=process, ident=ident(process.pid) or Ident(process.pid, 0), output=reading)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; gone is fine."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    def sweep(self) -> None:
        """Kill what the ended process left in its group. Guests and companions are in sessions of their own and stay."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def ended(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self.process.poll()
        return None if code is None else in_words(code)


def in_words(code: int) -> str:
    """A process's end for people: ``exit code 3``, ``killed by SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def credentials(user: str) -> dict[str, Any]:
    """Arguments of Popen that make the process ``user``'s; none where this process is not root, and so stays who it is."""
    if os.geteuid() != 0 or user == "root":
        return {}
    entry = pwd.getpwnam(user)
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def become(part: Part, who: Mapping[str, Any]) -> None:
    """Make this process one that may be no more than ``part``: its user, and with ``confined`` no way to any other rights, also
    by programs that are somebody else's when they run (setuid; capabilities(7), PR_SET_NO_NEW_PRIVS in prctl(2)). ``who``: the
    user's :func:`credentials`."""
    if part.confined:
        # Only root may, and it must come before root is given up.
        for capability in range(64) if who else ():
            if _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                break
        _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if who:
        os.setgroups(who["extra_groups"])
        os.setgid(who["group"])
        os.setuid(who["user"])


def _before_exec(parent: int, part: Part) -> Callable[[], None]:
    """What the new process does before it becomes the part: so it ends when the supervisor is killed.

    The kernel forgets PR_SET_PDEATHSIG when credentials change, so that comes after them.
    """

    who = credentials(part.user)

    def prepare() -> None:
        become(part, who)
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(125)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = part.files if hard == resource.RLIM_INFINITY else min(part.files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))

    return prepare
