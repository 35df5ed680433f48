"""The process that holds one hook and all that it starts: ``python -I -S corral.py``, told what to do by one line of JSON on its
standard input, which then stays open for as long as the hook is wanted. Says by one line of JSON how it ended
(:class:`vmcloud.hooks.run.Ran`).

1. Where the kernel lets it, a control group bounds the number of processes, and nothing leaves it. Elsewhere the user's limit
   of processes does that (root has none) and a look at the family tree now and then.
2. What the hook leaves behind comes to this process (PR_SET_CHILD_SUBREAPER), whatever session it went to, and is killed.
3. Output is read to its end; only the last of it is kept.

Nothing but the standard library's small modules is imported here: this is on the way of every step of a node that has hooks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator

GROUPS = "/sys/fs/cgroup"
PREFIX = "vmcloud-hook-"
LOOK = 0.25
"""Seconds between two looks at the family tree, where no control group bounds it."""
MERCY = 10.0
"""Seconds in which what was killed has to be dead."""
MERCY_OF_OTHERS = 0.5
"""The same for what a corral that was killed has left: nobody is to wait long for that."""
ROUND = 0.002
"""Seconds between two rounds of killing."""
PR_SET_CHILD_SUBREAPER = 36


class Group:
    """A control group with a bound on its processes."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @classmethod
    def make(cls, processes: int) -> Group | None:
        """A new one; None where there can be none. Those of corrals that were killed are emptied first."""
        parent = _pids_controller()
        if not parent:
            return None
        for left in _leftovers(parent):
            left.clear(_reap, MERCY_OF_OTHERS)
        group = cls(os.path.join(parent, f"{PREFIX}{os.getpid()}"))
        try:
            os.mkdir(group.folder)
            _write(group.folder, "pids.max", processes)
        except OSError:
            group.clear(_reap)
            return None
        return group

    def join(self) -> None:
        """This process belongs to it from now on."""
        _write(self.folder, "cgroup.procs", 0)

    def clear(self, bury: Callable[[], object], mercy: float = MERCY) -> None:
        """Kill all that is in it, without letting it grow meanwhile, and remove it. ``bury`` the dead that are ours."""
        with contextlib.suppress(OSError):
            _write(self.folder, "pids.max", 0)
        end = time.monotonic() + mercy
        while time.monotonic() < end:
            for pid in _numbers(os.path.join(self.folder, "cgroup.procs")):
                _kill(pid, signal.SIGKILL)
            bury()
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)
                break
            if not os.path.isdir(self.folder):
                break
            time.sleep(ROUND)


def _pids_controller() -> str:
    """Where groups that bound processes are made: version 2, or version 1's own hierarchy."""
    try:
        with open(os.path.join(GROUPS, "cgroup.controllers")) as listed:
            known = "pids" in listed.read().split()
    except OSError:
        return os.path.join(GROUPS, "pids") if os.access(os.path.join(GROUPS, "pids"), os.W_OK) else ""
    if not known or not os.access(GROUPS, os.W_OK):
        return ""
    try:
        with open(os.path.join(GROUPS, "cgroup.subtree_control")) as listed:
            if "pids" not in listed.read().split():
                _write(GROUPS, "cgroup.subtree_control", "+pids")
    except OSError:
        return ""
    return GROUPS


def _leftovers(parent: str) -> Iterator[Group]:
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and not os.path.exists(f"/proc/{entry.name[len(PREFIX) :]}"):
                yield Group(entry.path)


def _write(folder: str, name: str, value: object) -> None:
    with open(os.path.join(folder, name), "w") as stream:
        stream.write(str(value))


def _numbers(path: str) -> list[int]:
    try:
        with open(path) as stream:
            return [int(each) for each in stream.read().split()]
    except (OSError, ValueError):
        return []


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    """All below a process, as far as can be seen in one look."""
    found, line = [], [pid]
    while line:
        children = _numbers(f"/proc/{line[0]}/task/{line.pop(0)}/children")
        found += children
        line += children
    return found


def _reap() -> dict[int, int]:
    """Bury the dead: process id → wait status."""
    buried: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            buried[found[0]] = found[1]
    return buried


def _alone() -> bool:
    """Whether no child is left, dead or alive."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


class Tail:
    """The end of what was written."""

    def __init__(self, kept: int) -> None:
        self._kept, self._end, self.written = kept, b"", 0

    def add(self, chunk: bytes) -> None:
        """More of it."""
        self.written += len(chunk)
        self._end = (self._end + chunk)[-self._kept :]

    def text(self) -> str:
        """As printable text: no colours, no bells."""
        text = self._end.decode(errors="replace").replace("\r\n", "\n")
        return "".join(each if each in "\n\t" or each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


class Corral:
    """One hook, from its beginning to the end of all that is left of it."""

    def __init__(self, order: dict[str, object]) -> None:
        self.order, self.tail = order, Tail(int(str(order["kept"])))
        self.processes, self.seconds = int(str(order["processes"])), float(str(order["seconds"]))
        self.group = Group.make(self.processes)
        self.status: int | None = None
        self.trouble, self.stopped, self.late = "", False, False

    def run(self) -> dict[str, object]:
        """Begin, watch, clear away; what is to be said."""
        self.output, write = os.pipe()
        failed, told = os.pipe()
        data = os.memfd_create("data")
        os.write(data, str(self.order["data"]).encode())
        os.lseek(data, 0, os.SEEK_SET)
        self.hook = os.fork()
        if self.hook == 0:
            self._become(data, write, told)
        for each in (write, told, data):
            os.close(each)
        self._watch()
        left = self._clear()
        why = os.read(failed, 1000).decode() if select.select([failed], [], [], 0)[0] else ""
        return self._said(why, left)

    def _become(self, data: int, write: int, told: int) -> None:
        """In the child: the hook, or no more."""
        try:
            os.setsid()
            if self.group is not None:
                self.group.join()
            elif os.geteuid() != 0:
                most = _tasks() + self.processes
                resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.chdir(str(self.order["directory"]))
            for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            for target, source in enumerate((data, write, write)):
                os.dup2(source, target)
            argv = [str(each) for each in self.order["argv"]]  # type: ignore[attr-defined]
            os.execve(argv[0], argv, self.order["environment"])  # type: ignore[arg-type]
        except BaseException as error:
            os.write(told, _why_not(error, str(self.order["argv"][0])).encode())  # type: ignore[index]
        os._exit(127)

    def _watch(self) -> None:
        """Until the hook ends, its time is up, nobody wants it any more, or it has too large a family."""
        end, ended = time.monotonic() + self.seconds, os.pidfd_open(self.hook)
        while (left := end - time.monotonic()) > 0:
            patience = left if self.group is not None else min(left, LOOK)
            ready = select.select([0, self.output, ended], [], [], patience)[0]
            if 0 in ready and not os.read(0, 4096):
                self.stopped, self.trouble = True, "was stopped"
                return
            if self.output in ready and not self._drain():
                select.select([0, ended], [], [], patience)  # it has closed its output
            if ended in ready:
                return
            if self.group is None and len(_descendants(os.getpid())) > self.processes:
                self.trouble = f"had more than {self.processes} processes and was killed"
                return
        self.late, self.trouble = True, f"did not end in {self.seconds:g} s and was killed"

    def _drain(self) -> bool:
        """Take what there is of output; False at its end."""
        chunk = os.read(self.output, 1 << 16)
        self.tail.add(chunk)
        return bool(chunk)

    def _clear(self) -> int:
        """Kill all that is left and bury it; how many the hook had left behind."""
        self._bury()
        hook_lives = self.status is None
        killed = {each for each in _descendants(os.getpid()) if each != self.hook}
        end = time.monotonic() + MERCY
        while time.monotonic() < end:
            family = _descendants(os.getpid())
            for number in (signal.SIGSTOP, signal.SIGKILL):  # what stands still makes no more
                for pid in family:
                    _kill(pid, number)
            killed.update(each for each in family if each != self.hook)
            if self.group is not None:
                self.group.clear(self._bury)
            self._bury()
            if _alone():
                break
            time.sleep(ROUND)
        os.set_blocking(self.output, False)
        with contextlib.suppress(BlockingIOError):
            while self._drain():
                pass
        return 0 if hook_lives else len(killed)

    def _bury(self) -> None:
        self.status = _reap().get(self.hook, self.status)

    def _said(self, why: str, left: int) -> dict[str, object]:
        code, trouble = 0, self.trouble
        if why:
            code, trouble = -1, f"could not be begun: {why}"
        elif self.late:
            code = -4
        elif self.status is None:
            code, trouble = -3, trouble or "can not be ended"
        elif (ended := os.waitstatus_to_exitcode(self.status)) < 0:
            code, trouble = 128 - ended, trouble or f"was killed by {_signal(-ended)}"
        else:
            code = ended
        about = {"output": self.tail.text(), "written": self.tail.written, "left": left, "stopped": self.stopped}
        return {"code": code, "trouble": trouble, **about}


def _tasks() -> int:
    """How many processes and threads there are on the machine. RLIMIT_NPROC counts those of the user, also in pid namespaces
    (containers) that can not be seen from here; there are no more of them than this."""
    with open("/proc/loadavg", encoding="ascii") as stream:
        return int(stream.read().split()[3].partition("/")[2])


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _why_not(error: BaseException, path: str) -> str:
    """Why a program could not be begun."""
    if isinstance(error, FileNotFoundError):
        there = os.path.exists(path)
        return "the interpreter that its first line names is not there" if there else "it is there no more"
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        return "it is no program, and its first line names no interpreter (#!/bin/sh)"
    return f"{type(error).__name__}: {error}"


def _order() -> dict[str, object]:
    """The line that says what to do; what may follow it is read later."""
    said = b""
    while not said.endswith(b"\n"):
        if not (chunk := os.read(0, 1 << 16)):
            raise SystemExit(1)  # nobody wants it any more
        said += chunk
    order: dict[str, object] = json.loads(said)
    return order


def _adopt_orphans() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """One hook."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)
    _adopt_orphans()
    said = Corral(_order()).run()
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
