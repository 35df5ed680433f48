"""Fault points: named places at which a test can have the process killed.

``faults.point("worker.accept.journalled")`` does nothing unless the environment variable ``VMCLOUD_FAULTS`` names a
directory. Then, if the directory holds a file called like the point, the file is removed (so that the fault happens once) and
the process kills itself with SIGKILL: no handler runs, nothing is flushed, exactly as in a power cut of that one process.
"""

from __future__ import annotations

import os
import signal

POINTS: dict[str, str] = {}
"""Every declared point with the part it is in, for the tests that try them all."""

_DIRECTORY = os.environ.get("VMCLOUD_FAULTS", "")


def declare(part: str, *names: str) -> None:
    """Make points known; each name begins with its part."""
    for name in names:
        POINTS[name] = part


def point(name: str) -> None:
    """Die here if a test asked for it."""
    if not _DIRECTORY:
        return
    if name not in POINTS:
        raise AssertionError(f"fault point {name!r} is not declared")
    try:
        os.unlink(os.path.join(_DIRECTORY, name))  # noqa: PTH108, PTH118 - kept free of imports on the hot path
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
