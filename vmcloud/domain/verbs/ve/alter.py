"""Alter what only the record of a VE shows: restart policy, what is done about drift, description, lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import lease
from ...spec import LEASE, Spec
from ...wish import Wish
from .. import request
from ..base import Ended, Picture, Verb, Words, World


@dataclass(frozen=True)
class Request:
    """What is to change; what is not said stays."""

    restart: str | None = request.anything(None, "Restart policy: always, on-failure or never.")
    drift: str | None = request.anything(None, "What is done where somebody else changed the guest: report or apply.")
    description: str | None = request.anything(None, "Free text.")
    lease: Mapping[str, Any] | None = request.anything(None, "How long it may live; null: for ever.")


class Alter(Verb):
    name = "alter"
    request = Request
    words = Words("Alter a VE's restart policy, drift, description or lease.", button="Change")
    leaves_power = True
    without_node = True
    place = 11

    def parse(self, data: Mapping[str, Any]) -> Any:
        return dict(data)

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        said, fields = lease.taken_out(asked, world.now)
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
