"""Reconcile: what is not as it is wanted, and the wish to mend it. For administrators."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.fleet.services import reconcile

from .answers import accepted, filters, idempotency_key, no_filters, origin, read_object, send
from .auth import actor
from .schemas.common import KEY, ProblemOut, body, query_parameters
from .schemas.jobs import JobOut
from .schemas.nodes import FindingsOut, ReconcileIn

router = Router()
PARTS = (("ve", "name or UUID"), ("project", "of the name; default `main`"), ("node", ""))


@router.get(
    "",
    response={200: FindingsOut, 403: ProblemOut, 404: ProblemOut},
    summary="What is not as it is wanted",
    openapi_extra={"parameters": query_parameters(*PARTS)},
)
def show_plan(request: HttpRequest) -> HttpResponse:
    """The plan as it is now: which rule finds what, what the server does about it by itself, and what it would do if it were
    asked to. Nothing is changed."""
    return send({"items": reconcile.plan_json(reconcile.narrowed(actor(request), dict(filters(request))))})


@router.post(
    "",
    response={202: JobOut, 400: ProblemOut, 403: ProblemOut, 404: ProblemOut},
    summary="Mend it",
    openapi_extra={**body(ReconcileIn, required=False), "parameters": KEY},
)
def mend(request: HttpRequest) -> HttpResponse:
    """Ask the leading server to do now what `fix` of the plan says. The job answers in `jobs` with those that it made."""
    no_filters(request)
    asked = read_object(request, optional=True)
    return accepted(reconcile.ask(actor(request), asked, origin=origin(request), key=idempotency_key(request)))
