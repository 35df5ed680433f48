"""Guests that do not belong where they were seen: list, show, adopt. For administrators."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain import verbs
from vmcloud.fleet.services import queries, submit, views

from .answers import PAGING, accepted, filters, idempotency_key, no_filters, origin, page, read_object, send
from .auth import actor
from .schemas.common import KEY, PAGES, ProblemOut, body, query_parameters
from .schemas.jobs import ANSWERS
from .schemas.nodes import StrayOut, StrayPage
from .schemas.requests import request_of

router = Router()


@router.get(
    "",
    response={200: StrayPage, 403: ProblemOut},
    summary="List strays",
    openapi_extra={"parameters": [*query_parameters(("node", ""), ("kind", "")), *PAGES]},
)
def list_strays(request: HttpRequest) -> HttpResponse:
    """Guests that are recorded nowhere (`orphan`), or elsewhere, or whose VE was deleted; by node and native name."""
    return page(queries.strays_for(actor(request), filters(request, beside=PAGING)), ("key",), request, views.strays_json)


@router.get("/{node}/{native}", response={200: StrayOut, 403: ProblemOut, 404: ProblemOut}, summary="Show a stray")
def show_stray(request: HttpRequest, node: str, native: str) -> HttpResponse:
    """One of them."""
    no_filters(request)
    return send(views.strays_json([queries.stray(actor(request), node, native)])[0])


@router.post(
    "/{node}/{native}/adopt",
    response=ANSWERS,
    summary="Adopt an orphan",
    openapi_extra={**body(request_of(verbs.of("adopt"))), "parameters": KEY},
)
def adopt_stray(request: HttpRequest, node: str, native: str) -> HttpResponse:
    """Ask for an orphan to become a VE. It must be stopped, and stays so; nothing in it changes. If the job fails, it is an
    orphan as before."""
    no_filters(request)
    job = submit.adopt(actor(request), node, native, read_object(request), origin=origin(request), key=idempotency_key(request))
    return accepted(job)
