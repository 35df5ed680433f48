"""How a session ended."""

from __future__ import annotations

from dataclasses import dataclass

from vmcloud.domain.errors import Problem


@dataclass(frozen=True)
class Spoken:
    """The program's exit code, or None where the person left first; or what went wrong."""

    exit_code: int | None = None
    error: Problem | None = None
