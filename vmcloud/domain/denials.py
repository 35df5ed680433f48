"""Denials: what somebody was not allowed, as one structured line of the log that an audit takes up."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import asdict, dataclass

LOGGER = "vmcloud.denied"
"""The name of the logger; a handler there gets each :class:`Denial` as the record's ``denial``."""
MARK = "denied "
"""What a line begins with; JSON follows."""
TEXT_MAX = 300
SINGLY = 20
"""Denials of one identity at one door that are told in a second; what is beyond is only counted, so that nobody drives the lines
of others out of a log by being denied."""
KNOWN_MAX = 1000

log = logging.getLogger(LOGGER)


@dataclass(frozen=True)
class Denial:
    """``door``: where it was tried (``broker``, ``directory``, ``rest``); ``who``: the identity, empty where none is known;
    ``what`` was tried; ``why`` it was denied; ``source``: the address it came from, where that is known; ``count``: how often."""

    door: str
    who: str
    what: str
    why: str
    source: str = ""
    count: int = 1

    def line(self) -> str:
        """The line of the log."""
        return MARK + json.dumps(asdict(self))


class Gate:
    """Counts what one identity was denied at one door within a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[tuple[str, str], tuple[int, int, int]] = {}

    def told(self, door: str, who: str, count: int, now: float) -> tuple[bool, int]:
        """Whether to tell one more, and how many of earlier seconds were not told."""
        with self._lock:
            if len(self._seconds) > KNOWN_MAX:
                self._seconds.clear()
            second, told, silent = self._seconds.get((door, who), (int(now), 0, 0))
            if second != int(now):
                second, told = int(now), 0
            tell = told < SINGLY
            self._seconds[door, who] = (second, told + 1, 0 if tell else silent + count)
            return tell, silent if tell else 0


_gate = Gate()


def denied(door: str, who: str, what: str, why: str, *, source: str = "", count: int = 1) -> Denial:
    """Tell one denial. Texts are cut: some of them are the denied one's own words. See :data:`SINGLY`."""
    denial = Denial(door, who[:TEXT_MAX], what[:TEXT_MAX], why[:TEXT_MAX], source[:TEXT_MAX], count)
    tell, silent = _gate.told(door, who, count, time.monotonic())
    more = [Denial(door, denial.who, "more of the kind", "only counted: too many in one second", count=silent)] if silent else []
    for each in [*more, denial] if tell else []:
        log.warning("%s", each.line(), extra={"denial": each})
    return denial


def parse(line: str) -> Denial | None:
    """The denial in a line of the log; None where it has none."""
    _, found, text = line.partition(MARK + "{")
    if not found:
        return None
    try:
        return Denial(**json.loads("{" + text))
    except (ValueError, TypeError):
        return None
