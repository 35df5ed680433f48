"""Kinds: what each sort of VE can do, before anybody asks for one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain.errors import Invalid, NotFound
from vmcloud.fleet.services import matrix

from .answers import PAGING, no_filters, send
from .schemas.common import ProblemOut
from .schemas.kinds import KindOut, KindPage

router = Router()


@router.get("", response=KindPage, summary="List kinds")
def list_kinds(request: HttpRequest) -> HttpResponse:
    """All kinds with their powers, limits, and how many nodes offer them; those that can be created first."""
    no_filters(request, beside=PAGING)  # of one page, whoever pages
    return send({"items": matrix.kinds_json(), "next": None})


@router.get("/{kind}", response={200: KindOut, 404: ProblemOut}, summary="Show a kind")
def show_kind(request: HttpRequest, kind: str) -> HttpResponse:
    """One kind."""
    no_filters(request)
    try:
        return send(matrix.kind_json(kind))
    except Invalid as error:
        raise NotFound(error.problem.what, where="kind", todo=error.problem.todo) from error
