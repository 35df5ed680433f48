"""External programs: argv lists, a timeout, and the tail of stderr in the error. Never a shell string."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from shutil import which

from .base import TimedOut, ToolFailed, Unsupported

TAIL = 2000
"""Characters of stderr that an error keeps."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Completed:
    """What a program left: exit code and decoded output."""

    code: int
    stdout: str
    stderr: str


def find(name: str) -> str | None:
    """The absolute path of a program, looked up in the system's folders and never in the caller's ``PATH``."""
    return which(name, path=SYSTEM_PATH)


def require(name: str, *, operation: str, package: str = "") -> str:
    """As :func:`find`; raises :class:`Unsupported` with the package to install where it is missing."""
    path = find(name)
    if path is None:
        todo = f"Install the package {package}." if package else ""
        raise Unsupported(operation, f"the program {name} is not installed", todo=todo)
    return path


def run(
    argv: Sequence[str],
    *,
    operation: str,
    timeout: float,
    check: bool = True,
    daemonizes: bool = False,
    pass_fds: Sequence[int] = (),
    path: str = SYSTEM_PATH,
    extra: Mapping[str, str] | None = None,
    stdin: str | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Completed:
    """Run ``argv`` to its end within ``timeout`` seconds, in a clean environment (``LC_ALL=C``, ``PATH`` = ``path``, ``extra``).

    ``daemonizes``: the program leaves a process behind (in a session of its own) that would inherit its output and any
    descriptor; so it gets neither pipes nor ``pass_fds`` (a lock passed on would be held as long as the guest lives), and its
    output is lost. ``meanwhile`` is called while such a program runs.

    Raises :class:`Unsupported` (no such program), :class:`TimedOut` (it was killed), :class:`ToolFailed` (a non-zero exit code,
    unless ``check`` is false).
    """
    environment = {"LC_ALL": "C", "PATH": path, **(extra or {})}
    try:
        if daemonizes:
            result = Completed(_run_silently(list(argv), environment, timeout, meanwhile), "", "")
        else:
            done = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL if stdin is None else None,
                input=stdin,
                capture_output=True,
                env=environment,
                timeout=timeout,
                text=True,
                errors="replace",
                check=False,
                pass_fds=tuple(pass_fds),
            )
            result = Completed(done.returncode, done.stdout, done.stderr[-TAIL:])
    except FileNotFoundError as error:
        raise Unsupported(operation, f"the program {argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        stderr = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else (error.stderr or "")
        raise TimedOut(operation, f"{argv[0]} did not end within {timeout:g} s", stderr=stderr[-TAIL:]) from error
    if check and result.code != 0:
        raise ToolFailed(operation, f"{argv[0]} failed", exit_code=result.code, stderr=result.stderr)
    return result


def _run_silently(argv: list[str], environment: dict[str, str], timeout: float, meanwhile: Callable[[], None]) -> int:
    """The exit code of a program without input and output. Waits on a process descriptor: the standard library's own wait with
    a timeout sleeps up to 50 ms too long, longer than a container takes to start."""
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, env=environment) as process:
        handle = os.pidfd_open(process.pid)
        try:
            meanwhile()
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(timeout * 1000):
                process.kill()
                raise subprocess.TimeoutExpired(argv, timeout)
        finally:
            os.close(handle)
        return process.wait()
