"""Snapshots of one VE as things of their own: list, take, delete. Their addresses come before ``/ves/{ref}/{verb}``."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain.errors import Invalid
from vmcloud.fleet.services import queries, snapshots, submit

from .answers import PAGING, accepted, idempotency_key, origin, read_object, send
from .auth import actor
from .schemas.common import KEY, PROJECT, ProblemOut, body
from .schemas.jobs import ANSWERS
from .schemas.ves import SnapshotIn, SnapshotPage
from .ves import project_of

router = Router()


@router.get(
    "/{ref}/snapshots",
    response={200: SnapshotPage, 404: ProblemOut},
    summary="List a VE's snapshots",
    openapi_extra={"parameters": PROJECT},
)
def list_snapshots(request: HttpRequest, ref: str) -> HttpResponse:
    """All of them, oldest first."""
    project = project_of(request, beside=PAGING)  # of one page, whoever pages
    return send({"items": snapshots.shown(queries.ve(actor(request), ref, project)), "next": None})


@router.post(
    "/{ref}/snapshots",
    response=ANSWERS,
    summary="Take a snapshot",
    openapi_extra={**body(SnapshotIn), "parameters": [*PROJECT, *KEY]},
)
def take_snapshot(request: HttpRequest, ref: str) -> HttpResponse:
    """Keep the VE's root file system as it is, of a running VE as a power cut would leave it. At most 32 for one VE."""
    return _act(request, ref, "snapshot", _only(request, "name"))


@router.delete(
    "/{ref}/snapshots/{name}",
    response=ANSWERS,
    summary="Delete a snapshot",
    openapi_extra={"parameters": [*PROJECT, *KEY]},
)
def delete_snapshot(request: HttpRequest, ref: str, name: str) -> HttpResponse:
    """The VE itself stays as it is."""
    return _act(request, ref, "delete-snapshot", name)


def _only(request: HttpRequest, field: str) -> Any:
    """The body's one field beside ``job``; none given is the service's to refuse."""
    asked = read_object(request)
    for other in asked:
        if other not in (field, "job"):
            raise Invalid(f"no field is called {other[:60]!r}", where=other[:60], todo=f"Known fields: {field}, job.")
    return asked.get(field)


def _act(request: HttpRequest, ref: str, verb: str, name: Any) -> HttpResponse:
    terms = read_object(request, optional=True).get("job")
    job = submit.act(
        actor(request),
        ref,
        verb,
        {"snapshot": name, **({"job": terms} if terms is not None else {})},
        project=project_of(request),
        origin=origin(request),
        key=idempotency_key(request),
    )
    return accepted(job)
