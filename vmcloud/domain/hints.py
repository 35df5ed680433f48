"""What to do about a refusal, as data: an action with its arguments, which each door says in its own words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OPERANDS = ("ve", "node", "image", "snapshot", "job", "queue", "webhook", "for")
"""Arguments that a command takes by their place; the others are options."""


@dataclass(frozen=True)
class Hint:
    """A sentence in which ``{}`` stands for an action, such as ``Renew it: {}.`` and ``ve.lease``."""

    text: str
    action: str
    """The kind of object and what is done with it, as their commands are called: ``ve.lease``, ``node.list``."""
    args: Mapping[str, str | bool] = field(default_factory=dict)

    def command(self) -> str:
        """The sentence as the command line says it."""
        words = ["vmcloud", *self.action.split(".")]
        for name, value in self.args.items():
            if name not in OPERANDS:
                words.append(f"--{name}")
            if not isinstance(value, bool):
                words.append(shlex.quote(value))
        return self.said(f"`{' '.join(words)}`")

    def said(self, action: str) -> str:
        """The sentence with the action in a door's words."""
        return self.text.replace("{}", action)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Hint | None:
        """The hint of a problem's JSON; None where it has none that is whole."""
        text, action, args = data.get("hint"), data.get("action"), data.get("args", {})
        if not (isinstance(text, str) and isinstance(action, str) and action and isinstance(args, Mapping)):
            return None
        return cls(text, action, {str(name): value if value is True else str(value) for name, value in args.items()})
