"""What VEs use."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain.spec import DEFAULT_PROJECT
from vmcloud.fleet.services import queries, usage

from .answers import PAGING, filters, page, send
from .auth import actor
from .schemas.common import PAGES, PROJECT, ProblemOut, query_parameters
from .schemas.ves import UsageOut, UsagePage
from .ves import project_of

router = Router()
one = Router()
FILTERS = (("project", "default `main`; `*` for all"), *((name, "") for name in ("node", "kind", "owner", "desired", "name")))


@router.get("", response=UsagePage, summary="What VEs use", openapi_extra={"parameters": [*query_parameters(*FILTERS), *PAGES]})
def list_usage(request: HttpRequest) -> HttpResponse:
    """VEs that you may see, by project and name, as last measured by their nodes (every 15 s)."""
    found = filters(request, beside=PAGING)
    project = found.pop("project", DEFAULT_PROJECT)
    rows = queries.ves(actor(request), "" if project == "*" else project, found)
    return page(rows, ("project", "name"), request, usage.usage_json)


@one.get(
    "/{ref}/usage", response={200: UsageOut, 404: ProblemOut}, summary="What a VE uses", openapi_extra={"parameters": PROJECT}
)
def show_usage(request: HttpRequest, ref: str) -> HttpResponse:
    """One VE, as last measured by its node."""
    return send(usage.usage_json([queries.ve(actor(request), ref, project_of(request))])[0])
