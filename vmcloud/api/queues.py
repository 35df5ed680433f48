"""Queues: list, show, make, alter, remove."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.fleet.services import queues

from .answers import PAGING, no_filters, read_object, send
from .auth import actor
from .schemas.common import ProblemOut, body
from .schemas.queues import QueueIn, QueueOut, QueuePage

router = Router()


@router.get("", response=QueuePage, summary="List queues")
def list_queues(request: HttpRequest) -> HttpResponse:
    """All queues by name, with their limits and how full they are; always one page."""
    no_filters(request, beside=PAGING)
    return send({"items": queues.queues_json(), "next": None})


@router.post(
    "",
    response={201: QueueOut, 400: ProblemOut, 403: ProblemOut, 409: ProblemOut},
    summary="Make a queue",
    openapi_extra=body(QueueIn),
)
def create_queue(request: HttpRequest) -> HttpResponse:
    """A new line of jobs with limits; for administrators."""
    no_filters(request)
    name = queues.create(actor(request), read_object(request)).name
    return send(queues.queue_json(name), 201, Location=f"/api/v1/queues/{name}")


@router.get("/{name}", response={200: QueueOut, 404: ProblemOut}, summary="Show a queue")
def show_queue(request: HttpRequest, name: str) -> HttpResponse:
    """One queue."""
    no_filters(request)
    return send(queues.queue_json(name))


@router.patch(
    "/{name}",
    response={200: QueueOut, 400: ProblemOut, 403: ProblemOut, 404: ProblemOut},
    summary="Alter a queue",
    openapi_extra=body(QueueIn),
)
def alter_queue(request: HttpRequest, name: str) -> HttpResponse:
    """Other limits; what is not given stays. Jobs that are in it stay in it."""
    no_filters(request)
    queues.alter(actor(request), name, read_object(request))
    return send(queues.queue_json(name))


@router.delete("/{name}", response={204: None, 403: ProblemOut, 404: ProblemOut, 409: ProblemOut}, summary="Remove a queue")
def remove_queue(request: HttpRequest, name: str) -> HttpResponse:
    """An empty one to which none routes; `main` gets its defaults back."""
    no_filters(request)
    queues.remove(actor(request), name)
    return HttpResponse(status=204)
