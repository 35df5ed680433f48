"""Nodes: list, show, and every verb on one."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain.verbs import Verb
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import capacity, drains, queries, submit, views

from .answers import PAGING, after_write, idempotency_key, no_filters, origin, page, send
from .auth import actor
from .schemas.common import AFTER, PAGES, ProblemOut
from .schemas.nodes import MovesOut, NodeOut, NodePage
from .verbs import offer

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


@router.post("/{name}/confirm", response={200: NodeOut, 403: ProblemOut, 404: ProblemOut}, summary="Confirm what it has")
def confirm(request: HttpRequest, name: str) -> HttpResponse:
    """Have placement count on all that this node claims now: processors, memory, kinds."""
    return send(views.node_json(capacity.confirm(actor(request), name)))


@router.get("/{name}/moves", response={200: MovesOut, 403: ProblemOut, 404: ProblemOut}, summary="What draining a node would do")
def plan_of_drain(request: HttpRequest, name: str) -> HttpResponse:
    """Which of its VEs would go where now, and which can not, and why. Nothing is asked for by this."""
    no_filters(request)
    return send({"items": drains.plan_json(actor(request), name)})


def _submit(request: HttpRequest, name: str, verb: Verb, args: dict[str, Any]) -> Job:
    no_filters(request)
    return submit.node_action(actor(request), name, verb.name, args, origin=origin(request), key=idempotency_key(request))


offer(router, "node", _submit, [])
