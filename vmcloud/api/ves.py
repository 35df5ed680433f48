"""VEs: list, show, create, and every verb on one."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain import verbs
from vmcloud.domain.spec import DEFAULT_PROJECT
from vmcloud.domain.verbs import Verb
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import queries, submit, views

from .answers import PAGING, accepted, after_write, filters, idempotency_key, no_filters, origin, page, read_object, send
from .auth import actor
from .schemas.common import AFTER, KEY, PAGES, PROJECT, ProblemOut, body, query_parameters
from .schemas.jobs import ANSWERS
from .schemas.requests import request_of
from .schemas.ves import VEOut, VEPage
from .verbs import offer

router = Router()


def project_of(request: HttpRequest, *, beside: tuple[str, ...] = ()) -> str:
    """The ``project`` parameter; no other is known here but those ``beside``."""
    no_filters(request, beside=("project", *beside))
    return filters(request).get("project", DEFAULT_PROJECT)


@router.get(
    "",
    response=VEPage,
    summary="List VEs",
    openapi_extra={
        "parameters": [
            *query_parameters(
                ("project", "default `main`; `*` for all"), *((name, "") for name in ("node", "kind", "owner", "desired", "name"))
            ),
            *AFTER,
            *PAGES,
        ]
    },
)
def list_ves(request: HttpRequest) -> HttpResponse:
    """VEs that you may see, by project and name."""
    found = filters(request, beside=(*PAGING, "after"))
    after_write(request)
    project = found.pop("project", DEFAULT_PROJECT)
    rows = queries.ves(actor(request), "" if project == "*" else project, found)
    return page(rows, ("project", "name"), request, views.ves_json)


@router.post(
    "",
    response=ANSWERS,
    summary="Create a VE",
    openapi_extra={**body(request_of(verbs.of("create"))), "parameters": [*PROJECT, *KEY]},
)
def create_ve(request: HttpRequest) -> HttpResponse:
    """Ask for a new VE. What could never work is refused now: an unknown image, a taken name, more memory than any node has."""
    asked = read_object(request)
    asked.setdefault("project", project_of(request))
    return accepted(submit.create_ve(actor(request), asked, origin=origin(request), key=idempotency_key(request)))


@router.get(
    "/{ref}", response={200: VEOut, 404: ProblemOut}, summary="Show a VE", openapi_extra={"parameters": [*PROJECT, *AFTER]}
)
def show_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """One VE, by name or UUID."""
    project = project_of(request, beside=("after",))
    after_write(request)
    return send(views.ve_json(queries.ve(actor(request), ref, project)))


@router.patch(
    "/{ref}",
    response=ANSWERS,
    summary="Resize a VE",
    openapi_extra={**body(request_of(verbs.of("resize"))), "parameters": [*PROJECT, *KEY]},
)
def resize_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """Ask for other sizes."""
    return accepted(_submit(request, ref, verbs.of("resize"), read_object(request)))


@router.delete(
    "/{ref}",
    response=ANSWERS,
    summary="Delete a VE",
    openapi_extra={"parameters": [*PROJECT, *KEY]},
)
def delete_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """Ask for the end of a VE and of everything in it. A running one is stopped by force."""
    return accepted(_submit(request, ref, verbs.of("delete"), read_object(request, optional=True)))


def _submit(request: HttpRequest, ref: str, verb: Verb, args: dict[str, Any]) -> Job:
    about = {"project": project_of(request), "origin": origin(request), "key": idempotency_key(request)}
    return submit.act(actor(request), ref, verb.name, args, **about)


offer(router, "ve", _submit, PROJECT)
