"""What can go wrong, in words people can act on.

Every refusal says *what* is wrong, *where* (the field or object), *why*, and *what to do* next. The same four parts reach a
person through the command line, the API (RFC 9457 problem details) and the admin pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .hints import Hint

POISON = "poison"
"""The code of a step that again and again killed the process that carried it out."""
REQUEUE = "requeue"
"""The code of a step whose node asks for another try later."""


@dataclass(frozen=True)
class Problem:
    """One refusal. ``code`` is stable (scripts test it); ``where`` is a field path such as ``spec.memory_mib`` or empty."""

    code: str
    what: str
    where: str = ""
    why: str = ""
    todo: str = ""
    """What to do next, as the command line says it."""
    hint: Hint | None = None
    """The same as data, for doors with other words; None where there is nothing to be asked of this cloud."""

    def sentence(self, todo: str | None = None) -> str:
        """Everything in one line, for logs and terminals. ``todo``: what to do next in another door's words."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.why:
            text += f": {self.why}"
        if next_ := self.todo if todo is None else todo:
            text += f". {next_}"
        return text

    def to_json(self) -> dict[str, Any]:
        """The parts under their names; empty parts are left out."""
        fields: dict[str, Any] = {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "todo": self.todo,
        }
        if self.hint is not None:
            fields |= {"action": self.hint.action, "args": dict(self.hint.args), "hint": self.hint.text}
        return {name: value for name, value in fields.items() if value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Problem:
        """The inverse of :meth:`to_json`; unknown names are ignored."""
        texts = {name: str(data.get(name, "")) for name in ("code", "what", "where", "why", "todo")}
        return cls(**texts, hint=Hint.from_json(data))


class VmcloudError(Exception):
    """Base of every error that vmcloud raises on purpose. ``http_status`` is what the API answers with."""

    http_status = 500
    code = "internal"

    def __init__(self, what: str, *, where: str = "", why: str = "", todo: str | Hint = "", code: str = "") -> None:
        hint = todo if isinstance(todo, Hint) else None
        said = todo.command() if isinstance(todo, Hint) else todo
        self.problem = Problem(code=code or self.code, what=what, where=where, why=why, todo=said, hint=hint)
        super().__init__(self.problem.sentence())


class Invalid(VmcloudError):
    """The input breaks the grammar or a limit that no machine could lift."""

    http_status = 400
    code = "invalid"


class Unauthenticated(VmcloudError):
    """Nobody, or nobody we know, is asking."""

    http_status = 401
    code = "unauthenticated"


class Forbidden(VmcloudError):
    """The asker is known and may not."""

    http_status = 403
    code = "forbidden"


class NotFound(VmcloudError):
    """The object named does not exist (or the asker may not know that it does)."""

    http_status = 404
    code = "not-found"


class Conflict(VmcloudError):
    """The request is fine and the world is in its way: a name taken, a generation passed by, an idempotency key reused."""

    http_status = 409
    code = "conflict"


class Impossible(VmcloudError):
    """Syntactically right, and no part of this cloud could ever do it: refused at once rather than queued for ever."""

    http_status = 422
    code = "impossible"


class Unavailable(VmcloudError):
    """Could not look or could not act just now; nothing was changed. The same request may work later."""

    http_status = 503
    code = "unavailable"


class NoRoom(Unavailable):
    """There is no room to write down what was asked for; nothing was changed."""

    http_status = 507
    code = "no-room"


MAKE_ROOM = "An administrator makes room there (see `vmcloud doctor`); then it goes on by itself."
"""What to do about :class:`NoRoom`."""
