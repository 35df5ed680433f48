"""Images: list, show, import, and every verb on one; and blobs, the archives themselves, for workers with a ticket."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Router

from vmcloud.domain import verbs
from vmcloud.domain.errors import Invalid, NotFound, Unauthenticated
from vmcloud.domain.verbs import Verb
from vmcloud.fleet.models import Image, Job
from vmcloud.fleet.services import images, queries, submit, tickets, views

from .answers import PAGING, accepted, after_write, filters, idempotency_key, no_filters, origin, page, read_object, send
from .auth import actor
from .schemas.common import AFTER, KEY, PAGES, ProblemOut, query_parameters
from .schemas.images import ImageOut, ImagePage
from .schemas.jobs import ANSWERS
from .verbs import offer

router = Router()
blobs = Router()
CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ARCHIVE = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
_IMPORT = {
    **_ARCHIVE,
    "parameters": [*query_parameters(("kind", "the kind it is for; default `lxc`"), ("description", "free text")), *KEY],
}


def _images_json(rows: list[Image]) -> list[dict[str, Any]]:
    return [views.image_json(row) for row in rows]


@router.get("", response=ImagePage, summary="List images", openapi_extra={"parameters": [*AFTER, *PAGES]})
def list_images(request: HttpRequest) -> HttpResponse:
    """All images, by name."""
    no_filters(request, beside=(*PAGING, "after"))
    after_write(request)
    return page(queries.images(actor(request)), ("name",), request, _images_json)


@router.get("/{name}", response={200: ImageOut, 404: ProblemOut}, summary="Show an image", openapi_extra={"parameters": AFTER})
def show_image(request: HttpRequest, name: str) -> HttpResponse:
    """One image."""
    no_filters(request, beside=("after",))
    after_write(request)
    return send(views.image_json(queries.image(actor(request), name)))


@router.api_operation(
    ["PUT", "POST"],
    "/{name}",
    response=ANSWERS,
    summary="Import an image",
    openapi_extra=_IMPORT,
)
def import_image(request: HttpRequest, name: str) -> HttpResponse:
    """The body is the archive of a root file system: tar, also compressed by gzip, bzip2 or xz; it is not kept in memory."""
    given = filters(request)
    kind, description = given.pop("kind", "lxc"), given.pop("description", "")
    no_filters(request, beside=("kind", "description"))
    job = images.receive(
        actor(request),
        name,
        _chunks(request),
        kind=kind,
        description=description,
        origin=origin(request),
        key=idempotency_key(request),
    )
    return accepted(job)


def _chunks(request: HttpRequest) -> Iterator[bytes]:
    """The body piece by piece; :class:`Invalid` if it ends before its announced length."""
    announced = request.headers.get("Content-Length", "")
    received = 0
    while chunk := request.read(CHUNK):
        received += len(chunk)
        yield chunk
    if announced.isdigit() and received != int(announced):
        raise Invalid("the archive ended early", where="body", why=f"{received} of {announced} bytes came", todo="Send it again.")


@router.delete("/{name}", response=ANSWERS, summary="Delete an image", openapi_extra={"parameters": KEY})
def delete_image(request: HttpRequest, name: str) -> HttpResponse:
    """Ask for the end of an image. One that VEs were made from stays."""
    return accepted(_submit(request, name, verbs.of("delete-image"), read_object(request, optional=True)))


def _submit(request: HttpRequest, name: str, verb: Verb, args: dict[str, Any]) -> Job:
    no_filters(request)
    return submit.image_action(actor(request), name, verb.name, args, origin=origin(request), key=idempotency_key(request))


offer(router, "image", _submit, [])


@blobs.get(
    "/{sha256}",
    auth=None,
    summary="Fetch an archive",
    response={403: ProblemOut, 404: ProblemOut},
    openapi_extra={
        "responses": {200: {"description": "the archive's bytes", "content": {"application/octet-stream": {}}}},
    },
)
def fetch_blob(request: HttpRequest, sha256: str) -> StreamingHttpResponse:
    """For workers: an archive by its SHA-256, for a ticket (`Authorization: Ticket <text>`) that counts once."""
    scheme, _, ticket = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "ticket" or not ticket:
        raise Unauthenticated("a ticket is needed", where="Authorization", todo="The order to fetch an image carries one.")
    if not _SHA256.fullmatch(sha256):
        raise NotFound("this is no SHA-256", where="sha256")
    path = tickets.redeem_image(ticket.strip(), sha256)
    if not isinstance(request, ASGIRequest):
        return FileResponse(path.open("rb"), content_type="application/octet-stream")
    headers = {"Content-Length": str(path.stat().st_size)}
    return StreamingHttpResponse(_pieces(path), content_type="application/octet-stream", headers=headers)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    """A file's bytes. Under ASGI Django would read all of a FileResponse into memory first."""
    stream = await sync_to_async(lambda: path.open("rb"))()
    try:
        while piece := await sync_to_async(stream.read)(CHUNK):
            yield piece
    finally:
        stream.close()
