"""Nodes: list, show, add, cordon and uncordon."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain.vocabulary import Verb
from vmcloud.fleet.services import capacity, queries, submit, views

from .answers import PAGING, accepted, after_write, idempotency_key, no_filters, origin, page, send
from .auth import actor
from .schemas.common import AFTER, KEY, PAGES, ProblemOut
from .schemas.jobs import JobOut
from .schemas.nodes import NodeOut, NodePage

router = Router()


@router.get("", response=NodePage, summary="List nodes", openapi_extra={"parameters": [*AFTER, *PAGES]})
def list_nodes(request: HttpRequest) -> HttpResponse:
    """All nodes, by name."""
    no_filters(request, beside=(*PAGING, "after"))
    after_write(request)
    return page(queries.nodes(actor(request)), ("name",), request, views.nodes_json)


@router.get("/{name}", response={200: NodeOut, 404: ProblemOut}, summary="Show a node", openapi_extra={"parameters": AFTER})
def show_node(request: HttpRequest, name: str) -> HttpResponse:
    """One node."""
    no_filters(request, beside=("after",))
    after_write(request)
    return send(views.node_json(queries.node(actor(request), name)))


@router.post("/{name}/cordon", response={202: JobOut, 404: ProblemOut}, summary="Cordon", openapi_extra={"parameters": KEY})
def cordon(request: HttpRequest, name: str) -> HttpResponse:
    """No new placements on this node; what is there stays."""
    return _act(request, name, Verb.CORDON)


@router.post("/{name}/uncordon", response={202: JobOut, 404: ProblemOut}, summary="Uncordon", openapi_extra={"parameters": KEY})
def uncordon(request: HttpRequest, name: str) -> HttpResponse:
    """New placements on this node again."""
    return _act(request, name, Verb.UNCORDON)


@router.post("/{name}/confirm", response={200: NodeOut, 403: ProblemOut, 404: ProblemOut}, summary="Confirm what it has")
def confirm(request: HttpRequest, name: str) -> HttpResponse:
    """Have placement count on all that this node claims now: processors, memory, kinds."""
    return send(views.node_json(capacity.confirm(actor(request), name)))


def _act(request: HttpRequest, name: str, verb: Verb) -> HttpResponse:
    job = submit.node_action(actor(request), name, verb, origin=origin(request), key=idempotency_key(request))
    return accepted(job)
