"""The audit: what was refused to whom, and who logged in."""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.fleet.services import audit

from .answers import PAGING, filters, page, send
from .auth import actor
from .schemas.audit import AuditPage, RecentOut
from .schemas.common import PAGES, ProblemOut, query_parameters

router = Router()
FILTERS = (
    ("door", "see the answer's schema"),
    ("who", "a user's name"),
    ("source", "an address, or a node"),
    ("allowed", "true: logins that went well; false: refusals"),
)


@router.get("/recent", response={200: RecentOut, 403: ProblemOut}, summary="Is there a burst of refusals")
def recent(request: HttpRequest) -> HttpResponse:
    """How much was refused in the last minutes, by door; `burst` says so in words where it is much."""
    who, now = actor(request), time.time()
    audit.of(who)
    return send({"seconds": audit.BURST_SECONDS, "refusals": audit.recent(now), "burst": audit.burst(now)})


@router.get(
    "",
    response={200: AuditPage, 403: ProblemOut},
    summary="List refusals and logins",
    openapi_extra={"parameters": [*query_parameters(*FILTERS), *PAGES]},
)
def list_audit(request: HttpRequest) -> HttpResponse:
    """What was refused, to whom, from where and why, and who logged in; newest first, for administrators. The same again within a
    minute is one item with a count."""
    return page(audit.of(actor(request), filters(request, beside=PAGING)), ("-id",), request, audit.audit_json)
