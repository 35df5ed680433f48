"""``vmcloud doctor``: each requirement, whether it holds, and the command that puts it right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vmcloud.config import Config
from vmcloud.domain.errors import Forbidden

from . import checks, checks_cloud, checks_hooks

Level = Literal["OK", "WARN", "FAIL"]


@dataclass(frozen=True)
class Result:
    """One requirement. ``fix``: what to type; empty where all is well."""

    name: str
    level: Level
    detail: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return {"name": self.name, "level": self.level, "detail": self.detail, "fix": self.fix}


Check = Callable[[Path, Config | None], Iterator[tuple[str, str, str, str]]]

CHECKS: tuple[Check, ...] = (
    checks.programs,
    checks.kernel,
    checks.cgroups,
    checks.limits,
    checks.room,
    checks.overcommit,
    checks.clock,
    checks_cloud.users,
    checks_cloud.interpreter,
    checks_cloud.secret_files,
    checks_cloud.database,
    checks_cloud.ports,
    checks_cloud.running,
    checks_cloud.refusals,
    checks_cloud.messages,
    checks_cloud.versions,
    checks_cloud.kinds,
    checks_hooks.hooks,
)


def examine(data: Path) -> list[Result]:
    """Run every check; one that fails by itself is a result too, never a traceback.

    :class:`Forbidden` for who is neither root nor the owner of the cloud: what can not be looked at is not a failure.
    """
    try:
        config = Config.load(data)
    except FileNotFoundError:
        config = None
    if os.geteuid() not in (0, data.stat().st_uid if config else 0):
        raise Forbidden("not everything can be looked at", todo="Run doctor as root: sudo vmcloud doctor.")
    found: list[Result] = []
    for check in CHECKS:
        try:
            found += [Result(name, _level(level), detail, fix) for name, level, detail, fix in check(data, config)]
        except Exception as error:
            found.append(Result(check.__name__, "WARN", f"could not be checked: {type(error).__name__}: {error}"))
    return found


def table(results: list[Result]) -> str:
    """For people: what is wrong comes with its fix below it."""
    width = max(len(each.name) for each in results)
    lines = []
    for each in results:
        lines.append(f"{each.level:<4}  {each.name:<{width}}  {each.detail}")
        if each.fix:
            lines.append(f"      {'':<{width}}  fix: {each.fix}")
    bad = sum(each.level == "FAIL" for each in results)
    doubtful = sum(each.level == "WARN" for each in results)
    lines.append(f"{len(results)} checks, {bad} failed, {doubtful} warnings")
    return "\n".join(lines)


def _level(text: str) -> Level:
    return "OK" if text == "OK" else "WARN" if text == "WARN" else "FAIL"
