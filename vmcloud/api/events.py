"""Events: what happened to VEs and nodes that no job tells."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.fleet.services import events

from .answers import PAGING, filters, page
from .auth import actor
from .schemas.common import PAGES, query_parameters
from .schemas.jobs import HappeningPage

router = Router()
FILTERS = (("ve", "name or UUID"), ("node", ""), ("type", "see the answer's schema"), ("project", ""))


@router.get(
    "", response=HappeningPage, summary="List events", openapi_extra={"parameters": [*query_parameters(*FILTERS), *PAGES]}
)
def list_events(request: HttpRequest) -> HttpResponse:
    """What happened and no job tells, newest first: states nobody asked for, what the rules found, nodes that fell silent."""
    return page(events.of(actor(request), filters(request, beside=PAGING)), ("-id",), request, events.events_json)
