"""Denials: what somebody was not allowed, as one structured line of the log that an audit takes up."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass

LOGGER = "vmcloud.denied"
"""The name of the logger; a handler there gets each :class:`Denial` as the record's ``denial``."""
MARK = "denied "
"""What a line begins with; JSON follows."""
TEXT_MAX = 300

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


def denied(door: str, who: str, what: str, why: str, *, source: str = "", count: int = 1) -> Denial:
    """Tell one denial. Texts are cut: some of them are the denied one's own words."""
    denial = Denial(door, who[:TEXT_MAX], what[:TEXT_MAX], why[:TEXT_MAX], source[:TEXT_MAX], count)
    log.warning("%s", denial.line(), extra={"denial": denial})
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
