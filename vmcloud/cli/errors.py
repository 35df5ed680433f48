"""What the command line ends with, and how it is said: one to four lines on stderr, never a traceback."""

from __future__ import annotations

import re

from vmcloud.domain.errors import Problem

ECHOED = 60
_QUOTED = re.compile(rf"'([^']{{{ECHOED + 1},}})'")
OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: all done; an operand failed; the command line is wrong; no vmcloud answers; Ctrl-C (128 + SIGINT)."""


class CliError(Exception):
    """Something to say, and the exit code to end with."""

    exit_code = FAILED

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.sentence())

    @classmethod
    def say(cls, what: str, *, why: str = "", todo: str = "", where: str = "") -> CliError:
        """Build one from its parts."""
        return cls(Problem(code="cli", what=what, where=where, why=why, todo=todo))


class Refused(CliError):
    """The API answered with a problem. ``status`` is HTTP's."""

    def __init__(self, problem: Problem, status: int) -> None:
        super().__init__(problem)
        self.status = status


class Unreachable(CliError):
    """No vmcloud answers."""

    exit_code = UNREACHABLE


def printable(text: str) -> str:
    """``text`` on one line and without control characters: what guests and other people wrote must not drive the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def brief(text: str) -> str:
    """``text``, where what was quoted is cut to :data:`ECHOED` characters: people know what they typed."""
    return _QUOTED.sub(lambda found: f"'{found[1][: ECHOED - 1]}…'", text)


def lines(problem: Problem, about: str = "") -> list[str]:
    """A problem as one to four lines: what, where, why, what to do."""
    found = [f"vmcloud: {about}: {problem.what}" if about else f"vmcloud: {problem.what}"]
    found += [
        f"  {name}: {text}" for name, text in (("where", problem.where), ("why", problem.why), ("do", problem.todo)) if text
    ]
    return [brief(printable(line)) for line in found]
