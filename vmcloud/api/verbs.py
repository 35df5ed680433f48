"""Verbs as addresses: ``POST /<objects>/{name}/<verb>`` for each of the registry, with its request as the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain import verbs
from vmcloud.domain.verbs import Verb
from vmcloud.fleet.models import Job

from .answers import accepted, read_object
from .schemas.common import KEY, body
from .schemas.jobs import ANSWERS
from .schemas.requests import must_say, request_of

Submit = Callable[[HttpRequest, str, Verb, dict[str, Any]], Job]
"""Asks for a verb on the object with a name; the last argument is the body."""

OTHERS = ["GET", "PUT", "PATCH", "DELETE"]


def offer(router: Router, kind: str, submit: Submit, parameters: list[dict[str, Any]]) -> None:
    """Have the verbs of one kind of object at ``/{ref}/<verb>``, and a refusal that names them for every other word."""
    for verb in verbs.about(kind):
        if not verb.own_way and "rest" not in verb.not_offered:
            _offer(router, verb, submit, parameters)

    def unknown(request: HttpRequest, ref: str, verb: str) -> HttpResponse:
        verbs.called(kind, verb)
        raise AssertionError("each verb has an address of its own")

    router.add_api_operation(
        "/{ref}/{verb}",
        ["POST"],
        unknown,
        response=ANSWERS,
        operation_id=f"{kind}_verb",
        summary="Any verb, by its name",
        description="Each has an address of its own, where its fields are described; another word is refused, and names them.",
        openapi_extra={"parameters": [*parameters, *KEY]},
    )
    router.add_api_operation("/{ref}/{verb}", OTHERS, unknown, include_in_schema=False)


def _offer(router: Router, verb: Verb, submit: Submit, parameters: list[dict[str, Any]]) -> None:
    needs_body = must_say(verb)
    described = body(request_of(verb), required=needs_body) if request_of(verb).model_fields else {}
    session = " It is on the websocket `/api/v1/sessions/<id of the job>`." if verb.session else ""

    def act(request: HttpRequest, ref: str) -> HttpResponse:
        return accepted(submit(request, ref, verb, read_object(request, optional=not needs_body)))

    router.add_api_operation(
        f"/{{ref}}/{verb.called}",
        ["POST"],
        act,
        response=ANSWERS,
        operation_id=f"{verb.object}_{verb.called}".replace("-", "_"),
        summary=verb.words.summary.rstrip("."),
        description=f"{verb.words.summary} {verb.words.confirm}".strip() + session,
        openapi_extra={**described, "parameters": [*parameters, *KEY]},
    )
