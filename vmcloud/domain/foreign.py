"""Changes of what is wanted that somebody made in the directory: which verbs they ask for, and whether their writer may. Pure.

A directory has attributes, a queue has verbs: the difference between the last accepted :class:`Wish` and the one that was found
is a short list of :class:`Demand`, in the order in which they are carried out. What can not be, or may not be, raises an error of
:mod:`vmcloud.domain.errors`; then nothing of that writer's change is taken up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import kinds, verbs
from .errors import Conflict, Forbidden, Impossible, Invalid
from .spec import Spec, plain
from .verbs.base import Right
from .vocabulary import Desired, Verb
from .wish import FIXED, FREE, SIZES, Wish, differences

OWNER_MAX = 150
_OWNER = re.compile(r"[\w.@+-]*")

_POWER: Mapping[tuple[Desired, Desired], Verb] = {
    (Desired.RUNNING, Desired.STOPPED): Verb.STOP,
    (Desired.SUSPENDED, Desired.STOPPED): Verb.STOP,
    (Desired.STOPPED, Desired.RUNNING): Verb.START,
    (Desired.SUSPENDED, Desired.RUNNING): Verb.RESUME,
    (Desired.RUNNING, Desired.SUSPENDED): Verb.SUSPEND,
}


@dataclass(frozen=True)
class Writer:
    """Who changed something: a login, the groups that it is in, whether it is a person's (only people own). No name: unknown."""

    name: str
    administrator: bool = False
    operator: bool = False
    person: bool = False


@dataclass(frozen=True)
class Demand:
    """One verb that a change asks for, with its arguments, and the fields of the wish that it is about."""

    verb: Verb
    fields: frozenset[str]
    args: dict[str, Any] = field(default_factory=dict)

    def after(self, wish: Wish, found: Wish) -> Wish:
        """What is wanted once this is carried out."""
        return wish.taking(found, self.fields)


def demands(accepted: Wish, found: Wish) -> tuple[Demand, ...]:
    """What the change from ``accepted`` to ``found`` asks for, in order: what only the record shows, then the size, then the
    power; of a change that also deletes, nothing else. Raises for what is no value, and for what can not be changed."""
    changed = differences(accepted, found)
    if accepted.desired is Desired.ABSENT and changed:
        raise Conflict("the VE is being deleted", todo="Create it anew once it is gone.")
    if "desired" in changed and found.desired is Desired.ABSENT:
        return (Demand(Verb.DELETE, frozenset({"desired"})),)
    for name in FIXED:
        if name in changed:
            raise Impossible(
                f"{_words(name)} can not be changed", where=name, why=f"it was created with {_shown(accepted, name)}"
            )
    Spec.parse(found.spec.to_json())
    kinds.check(found.spec)
    _check_owner(found.owner)
    made = []
    if free := changed & set(FREE):
        made.append(Demand(Verb.ALTER, free, {name: plain(found.value(name)) for name in FREE if name in free}))
    if sizes := changed & set(SIZES):
        made.append(Demand(Verb.RESIZE, sizes, {name: found.value(name) for name in SIZES if name in sizes}))
    if "desired" in changed:
        made.append(Demand(_power(accepted.desired, found.desired), frozenset({"desired"})))
    return tuple(made)


def _power(before: Desired, after: Desired) -> Verb:
    if (verb := _POWER.get((before, after))) is None:
        raise Conflict(f"a {before} VE can not be made {after}", where="desired", todo="Start it first.")
    return verb


def _check_owner(owner: str) -> None:
    if len(owner) > OWNER_MAX or not _OWNER.fullmatch(owner):
        raise Invalid(f"{owner[:60]!r} is no login", where="owner", why="letters, digits and . @ + - _, at most 150, are allowed")


def _words(name: str) -> str:
    return {"node": "the node that was asked for", "privileged": "whether it is privileged"}.get(name, f"the {name}")


def _shown(wish: Wish, name: str) -> str:
    value = wish.value(name)
    return repr(str(value)) if value != "" else "none"


def permit(writer: Writer, owner: str, wanted: Iterable[Demand]) -> None:
    """Raise :class:`Forbidden` unless ``writer`` may ask all this of a VE that belongs to ``owner``.

    Administrators may everything; operators may switch the power of every VE; owners may everything with what is theirs but give
    it away. An unknown writer may nothing."""
    if not writer.name:
        raise Forbidden("it is not known who changed this", why="the directory's access log does not tell")
    if writer.administrator:
        return
    for demand in wanted:
        free = "owner" not in demand.fields
        own = free and writer.person and bool(owner) and writer.name.casefold() == owner.casefold()
        switch = verbs.of(demand.verb).right is Right.OPERATOR
        if not own and not (switch and writer.operator):
            may = ["an administrator", *["its owner"] * free, *["an operator"] * switch]
            raise Forbidden(f"{writer.name} may not {demand.verb} this VE", why=f"{' or '.join(may)} may")


def verb_of(before: Wish, after: Wish) -> Verb:
    """What a change is called that is refused: one verb, whatever it asked for."""
    changed = differences(before, after)
    if after.desired is Desired.ABSENT:
        return Verb.DELETE
    if changed and changed <= set(SIZES):
        return Verb.RESIZE
    return _POWER.get((before.desired, after.desired), Verb.ALTER) if changed == {"desired"} else Verb.ALTER
