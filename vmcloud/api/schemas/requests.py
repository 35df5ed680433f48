"""Schemas of the requests of verbs, made of their typed models (:mod:`vmcloud.domain.verbs.request`)."""

from __future__ import annotations

import functools
from typing import Any, Literal

from ninja import Field, Schema
from pydantic import create_model

from vmcloud.domain.verbs import Verb
from vmcloud.domain.verbs.request import UNSAID, About, Sort, needed

from .common import NAME
from .jobs import TermsIn
from .ves import LeaseIn

_TYPES: dict[Sort, Any] = {
    Sort.FLAG: bool,
    Sort.WHOLE: int,
    Sort.SECONDS: float,
    Sort.LABEL: str,
    Sort.TEXT: str,
    Sort.LEASE: LeaseIn | None,
    Sort.ARGUMENTS: list[str],
    Sort.VARIABLES: dict[str, str],
}


@functools.cache
def request_of(verb: Verb) -> type[Schema]:
    """The body of a request for ``verb``: the fields of its model, and ``job`` where it may have terms."""
    fields: dict[str, Any] = {name: _field(each, about) for name, (each, about) in verb.fields.items()}
    if verb.object == "ve" and not verb.session and verb.name != "adopt":
        fields["job"] = (TermsIn | None, Field(None, description="when and how its job may run"))
    title = "".join(word.capitalize() for word in verb.name.split("-"))
    return create_model(f"{title}In", __base__=Schema, __doc__=verb.request.__doc__, **fields)


def must_say(verb: Verb) -> bool:
    """Whether a request without a body could never be right."""
    return any(needed(each) or each.default is UNSAID for each, _ in verb.fields.values())


def _field(each: Any, about: About) -> tuple[Any, Any]:
    """Type and description of one field."""
    kind = Literal[about.choices] if about.choices else _TYPES[about.sort]
    words = f"{NAME}: {about.words}" if about.sort is Sort.LABEL else about.words
    limits: dict[str, Any] = {"description": f"{words} ({about.unit})" if about.unit else words}
    if about.sort in (Sort.WHOLE, Sort.SECONDS):
        limits |= {"ge": about.low, "le": about.high}
    if about.longest is not None:
        limits["max_length"] = about.longest
    if about.example is not None:
        limits["examples"] = [about.example]
    if needed(each):
        return kind, Field(..., **limits)
    if each.default is UNSAID:
        return kind, Field(None, json_schema_extra=_without_default, **limits)
    if each.default is None:
        kind = kind | None
    default = {} if about.sort is Sort.VARIABLES else each.default
    return kind, Field(default, **limits)


def _without_default(schema: dict[str, Any]) -> None:
    """What is not said changes nothing: no value would do the same."""
    schema.pop("default", None)
