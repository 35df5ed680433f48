"""Every failure as RFC 9457 problem details, under the same four parts that all of vmcloud uses: what, where, why, what to do."""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from vmcloud.domain.errors import MAKE_ROOM, Invalid, NoRoom, NotFound, Problem, Unauthenticated, Unavailable, VmcloudError
from vmcloud.fleet import database
from vmcloud.fleet.services import audit
from vmcloud.fleet.services.audit import Door
from vmcloud.fleet.services.logins import TooMany

from .answers import encode

CONTENT_TYPE = "application/problem+json"
TYPE = "urn:vmcloud:problem:"
"""Problem types are names, not addresses: ``urn:vmcloud:problem:<code>``."""

LOGIN_PATH = "/api/v1/tokens"
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)
"""Answers that go to the audit."""
RETRY_AFTER = "1"
"""Seconds after which what could not be done just now is worth another try."""

log = logging.getLogger(__name__)


class TooLarge(VmcloudError):
    """The request's body is larger than what is read into memory."""

    http_status = 413
    code = "too-large"


class NotAllowed(VmcloudError):
    """The path exists and does not know this method."""

    http_status = 405
    code = "method-not-allowed"


def body_of(problem: Problem, status: int) -> dict[str, Any]:
    """The problem details object. ``detail`` has what and why; ``where`` and ``todo`` are extension members."""
    detail = f"{problem.what}: {problem.why}" if problem.why else problem.what
    return {
        "type": TYPE + problem.code,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **problem.to_json(),
    }


def answer(error: VmcloudError) -> HttpResponse:
    """The response for one of our errors."""
    status = error.http_status
    response = HttpResponse(encode(body_of(error.problem, status)), status=status, content_type=CONTENT_TYPE)
    response.problem = error.problem
    if isinstance(error, TooMany):
        response["Retry-After"] = str(error.after)
    if isinstance(error, Unavailable):
        response["Retry-After"] = RETRY_AFTER
    if status == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = 'Bearer realm="vmcloud"'
    return response


async def send_problem(
    scope: Mapping[str, Any], send: Callable[[Any], Awaitable[None]], error: VmcloudError, *, protocol: str = "http"
) -> None:
    """The same as a whole ASGI response, where Django is not asked; ``protocol``: what the message types begin with."""
    note_refusal(scope, error)
    response = answer(error)
    fields = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    fields.append((b"content-length", str(len(response.content)).encode()))
    await send({"type": f"{protocol}.response.start", "status": response.status_code, "headers": fields})
    await send({"type": f"{protocol}.response.body", "body": response.content})


def note_refusal(scope: Mapping[str, Any], error: VmcloudError) -> None:
    """Have the audit know of a refusal that Django does not see."""
    if error.http_status in REFUSED:
        source, _ = scope.get("client") or ("", 0)
        what = f"{scope.get('method', 'websocket')} {scope['path']}"
        audit.denied(Door.REST, what, error.problem.what, source=str(source))


def translate(request: HttpRequest, error: BaseException) -> VmcloudError:
    """Any exception of a request as one of ours; what nobody foresaw becomes *internal*, logged under an incident number."""
    if isinstance(error, VmcloudError):
        return error
    if isinstance(error, ValidationError):
        return _invalid(error)
    if isinstance(error, AuthenticationError):
        return Unauthenticated(
            "a token is needed", where="Authorization", todo="Send `Authorization: Bearer <token>`; `vmcloud login` gets one."
        )
    if isinstance(error, HttpError) and error.status_code < 500:
        return Invalid(str(error))
    if isinstance(error, Http404):
        return NotFound("there is nothing at this address", where=request.path)
    if isinstance(error, RequestDataTooBig):
        return TooLarge("the request's body is too large", why="a JSON body has at most 1 MiB")
    if isinstance(error, UnreadablePostError):
        return Invalid("the request's body ended early", where="body", todo="Send it again.")
    if isinstance(error, SuspiciousOperation | BadRequest):
        return Invalid("the request is malformed")
    if isinstance(error, database.AWAY):
        log.error("%s %s: the database does not answer: %s", request.method, request.path, error)
        return database.unavailable(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        log.error("%s %s: %s", request.method, request.path, error)
        return NoRoom("the web part has no room on its disk", todo=MAKE_ROOM)
    if isinstance(error, database.UNFIT):
        log.warning("%s %s: refused by the database: %s", request.method, request.path, error)
        if "\0" in request.path:
            return NotFound("there is nothing at this address", where="address")
        return Invalid("a value is too long, out of range, or has a character that can not be kept")
    incident = secrets.token_hex(4)
    log.error("incident %s: %s %s", incident, request.method, request.path, exc_info=error)
    return VmcloudError(
        "something went wrong here, and it is not your fault",
        why=f"incident {incident}",
        todo=f"Look for 'incident {incident}' in the log of the web part, and report it as a defect.",
    )


def _invalid(error: ValidationError) -> VmcloudError:
    """The first complaint about a query or path parameter."""
    first: dict[str, Any] = error.errors[0] if error.errors else {}
    place = [str(part) for part in first.get("loc", ())]
    return Invalid(str(first.get("msg", "the request is malformed")), where=".".join(place[1:]) or "request")


def install(api: NinjaAPI) -> None:
    """Make every exception that leaves an operation of ``api`` a problem."""

    def handle(request: HttpRequest, error: Any) -> HttpResponse:
        return answer(translate(request, error))

    for kind in (Exception, Http404, HttpError, ValidationError, VmcloudError):
        api.add_exception_handler(kind, handle)
