"""``python -m vmcloud.local.supervise LOCK [--only PART]… [--without PART]…``: the process behind ``vmcloud up --detach``.

``LOCK`` is the number of the open file that holds the lock. Nothing but the supervisor is imported here: it stays for ever.
"""

from __future__ import annotations

import sys

from vmcloud.config import Config
from vmcloud.domain.errors import VmcloudError

from . import combined, up


class _Inherited(up.Lock):
    """The lock as taken by the parent."""

    def __init__(self, file: int) -> None:
        self.file = file


def main(arguments: list[str]) -> int:
    """Supervise until told to stop."""
    config = Config.load()
    lock = _Inherited(int(arguments[0]))
    rest = arguments[1:]
    only = [value for option, value in zip(rest[::2], rest[1::2], strict=True) if option == "--only"]
    without = [value for option, value in zip(rest[::2], rest[1::2], strict=True) if option == "--without"]
    try:
        parts = up.start(config, only, without)
    except VmcloudError as error:
        log = combined.CombinedLog(config.data / "log" / "vmcloud.log", config.keep)
        log.write("supervisor", str(error))
        return 1
    up.foreground(config, parts, lock, echo=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
