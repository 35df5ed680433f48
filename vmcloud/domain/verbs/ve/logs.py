"""Read what a VE has written to its console since its last start."""

from __future__ import annotations

from dataclasses import dataclass

from ...vocabulary import Power
from .. import request
from ..base import Words
from .console import Session


@dataclass(frozen=True)
class Request:
    """How to read."""

    follow: bool = request.flag(False, "Tell also what is added, until you leave.")


class Logs(Session):
    name = "logs"
    request = Request
    words = Words("Read a VE's boot log.")
    needs = Power.BOOT_LOG
    demands_running = False
    place = 32


VERB = Logs()
