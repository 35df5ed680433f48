"""Run a program in a VE, with its input and output at the person's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...vocabulary import Power
from .. import request
from ..base import Words
from .console import Session


@dataclass(frozen=True)
class Request:
    """The program."""

    argv: Sequence[str] = request.arguments("The program and its arguments; no shell reads them.")
    environment: Mapping[str, str] = request.variables("Variables that are added to a clean environment.")
    tty: bool = request.flag(False, "Give it a terminal of its own.")


class Exec(Session):
    name = "exec"
    request = Request
    words = Words("Run a program in a VE.")
    needs = Power.EXEC
    place = 31


VERB = Exec()
