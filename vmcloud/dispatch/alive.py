"""Signs of life: a part that hears its lists touches a file now and then; `vmcloud status` looks how long ago.

That a process exists says little: one that is frozen, or busy for ever with one message, answers nobody.
"""

from __future__ import annotations

import os
import threading
import time

VARIABLE = "VMCLOUD_ALIVE"
"""Environment variable: the file, which the supervisor makes; without it nothing is touched."""
EVERY = 2.0
"""Seconds between signs, at least."""

_next = 0.0
_lock = threading.Lock()


def beat() -> None:
    """Give a sign of life. Cheap, and for any thread."""
    global _next
    path, now = os.environ.get(VARIABLE, ""), time.monotonic()
    if not path or now < _next:
        return
    with _lock:
        _next = now + EVERY
    try:
        os.utime(path)
    except OSError:
        pass
