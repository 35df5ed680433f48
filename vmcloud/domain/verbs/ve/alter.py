"""Alter what only the record of a VE shows: restart policy, what is done about drift, description, lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import lease
from ...spec import LEASE, Spec
from ...vocabulary import Drift, Restart
from ...wish import Wish
from .. import request
from ..base import Ended, Picture, Verb, Words, World


@dataclass(frozen=True)
class Request:
    """What is to change; what is not said stays."""

    restart: str = request.choice(request.UNSAID, "When it ends.", Restart)
    drift: str = request.choice(request.UNSAID, "When somebody else changes its power or size.", Drift)
    description: str = request.text(request.UNSAID, "Free text; empty: none.", example="Sells things.")
    lease: Mapping[str, Any] | None = request.lease(
        "How long it may live; null: for ever. A later end calls off what the old one led to."
    )


class Alter(Verb):
    name = "alter"
    request = Request
    words = Words("Alter a VE's restart policy, drift, description or lease.", button="Change")
    leaves_power = True
    without_node = True
    place = 11

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        said, fields = lease.taken_out(request.given(asked), world.now)
        lease.check_change(Spec.parse(subject.spec).lease, fields, world.now)
        Spec.parse(subject.spec).altered({**said, **fields})
        return {**said, **fields}

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None if set(args) & set(LEASE) else args

    def wants(self, wish: Wish, args: Mapping[str, Any]) -> Wish:
        return wish.with_spec(wish.spec.altered(args))

    def to_settle(self, end: Ended) -> bool:
        return False

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        row = picture.ve(ve)
        return "the change of its entry" if row is not None and row.generation < end.generation and end.ok else ""


VERB = Alter()
