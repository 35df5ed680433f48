"""VEs: list, show, create, and every verb on one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain.errors import NotFound
from vmcloud.domain.spec import DEFAULT_PROJECT
from vmcloud.domain.vocabulary import Verb
from vmcloud.fleet.services import queries, submit, views

from .answers import PAGING, accepted, after_write, filters, idempotency_key, no_filters, origin, page, read_object, send
from .auth import actor
from .schemas.common import AFTER, KEY, PAGES, PROJECT, ProblemOut, body, query_parameters
from .schemas.jobs import JobOut
from .schemas.ves import AboutIn, CreateIn, ExecIn, LogsIn, PowerIn, ResizeIn, VEOut, VEPage

router = Router()
SESSION = {202: JobOut, 400: ProblemOut, 404: ProblemOut, 409: ProblemOut, 422: ProblemOut}
VERBS = (Verb.START, Verb.STOP, Verb.RESTART, Verb.SUSPEND, Verb.RESUME)


def project_of(request: HttpRequest, *, beside: tuple[str, ...] = ()) -> str:
    """The ``project`` parameter; no other is known here but those ``beside``."""
    no_filters(request, beside=("project", *beside))
    return filters(request).get("project", DEFAULT_PROJECT)


@router.get(
    "",
    response=VEPage,
    summary="List VEs",
    openapi_extra={
        "parameters": [
            *query_parameters(
                ("project", "default `main`; `*` for all"), *((name, "") for name in ("node", "kind", "owner", "desired", "name"))
            ),
            *AFTER,
            *PAGES,
        ]
    },
)
def list_ves(request: HttpRequest) -> HttpResponse:
    """VEs that you may see, by project and name."""
    found = filters(request, beside=(*PAGING, "after"))
    after_write(request)
    project = found.pop("project", DEFAULT_PROJECT)
    rows = queries.ves(actor(request), "" if project == "*" else project, found)
    return page(rows, ("project", "name"), request, views.ves_json)


@router.post(
    "",
    response={202: JobOut, 400: ProblemOut, 409: ProblemOut, 422: ProblemOut},
    summary="Create a VE",
    openapi_extra={**body(CreateIn), "parameters": [*PROJECT, *KEY]},
)
def create_ve(request: HttpRequest) -> HttpResponse:
    """Ask for a new VE. What could never work is refused now: an unknown image, a taken name, more memory than any node has."""
    asked = read_object(request)
    asked.setdefault("project", project_of(request))
    return accepted(submit.create_ve(actor(request), asked, origin=origin(request), key=idempotency_key(request)))


@router.get(
    "/{ref}", response={200: VEOut, 404: ProblemOut}, summary="Show a VE", openapi_extra={"parameters": [*PROJECT, *AFTER]}
)
def show_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """One VE, by name or UUID."""
    project = project_of(request, beside=("after",))
    after_write(request)
    return send(views.ve_json(queries.ve(actor(request), ref, project)))


@router.patch(
    "/{ref}",
    response={202: JobOut, 400: ProblemOut, 404: ProblemOut, 422: ProblemOut},
    summary="Resize a VE",
    openapi_extra={**body(ResizeIn), "parameters": [*PROJECT, *KEY]},
)
def resize_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """Ask for other sizes."""
    return _act(request, ref, Verb.RESIZE)


@router.delete(
    "/{ref}",
    response={202: JobOut, 404: ProblemOut},
    summary="Delete a VE",
    openapi_extra={"parameters": [*PROJECT, *KEY]},
)
def delete_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """Ask for the end of a VE and of everything in it. A running one is stopped by force."""
    return _act(request, ref, Verb.DELETE)


@router.post(
    "/{ref}/exec",
    response=SESSION,
    summary="Run a program in a VE",
    openapi_extra={**body(ExecIn), "parameters": [*PROJECT, *KEY]},
)
def exec_in_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """Ask for a session in which a program runs. Its input and output are on the websocket `/api/v1/sessions/<id of the job>`."""
    return _act(request, ref, Verb.EXEC)


@router.post(
    "/{ref}/console",
    response=SESSION,
    summary="Open a VE's console",
    openapi_extra={"parameters": [*PROJECT, *KEY]},
)
def console_of_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """Ask for a session with the console. It is on the websocket `/api/v1/sessions/<id of the job>`."""
    return _act(request, ref, Verb.CONSOLE)


@router.post(
    "/{ref}/logs",
    response=SESSION,
    summary="Read a VE's boot log",
    openapi_extra={**body(LogsIn, required=False), "parameters": [*PROJECT, *KEY]},
)
def logs_of_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """Ask for a session that tells what the VE has written to its console since its last start. It is on the websocket
    `/api/v1/sessions/<id of the job>`."""
    return _act(request, ref, Verb.LOGS)


@router.post(
    "/{ref}/alter",
    response={202: JobOut, 400: ProblemOut, 404: ProblemOut, 409: ProblemOut},
    summary="Alter a VE's restart policy, drift, description or lease",
    openapi_extra={**body(AboutIn), "parameters": [*PROJECT, *KEY]},
)
def alter_ve(request: HttpRequest, ref: str) -> HttpResponse:
    """Ask for a change of what only the record shows. No node has to do anything, and nothing restarts."""
    return _act(request, ref, Verb.ALTER)


@router.post(
    "/{ref}/{verb}",
    response={202: JobOut, 400: ProblemOut, 404: ProblemOut, 422: ProblemOut},
    summary="Start, stop, restart, suspend or resume a VE",
    openapi_extra={**body(PowerIn, required=False), "parameters": [*PROJECT, *KEY]},
)
def act_on_ve(request: HttpRequest, ref: str, verb: str) -> HttpResponse:
    """Ask for `start`, `stop`, `restart`, `suspend` or `resume`. Stop is graceful first and forced after `grace` seconds."""
    known = {each.value: each for each in VERBS}
    if verb not in known:
        raise NotFound(f"no verb is called {verb[:60]!r}", where="verb", todo=f"Choose one of: {', '.join(known)}.")
    return _act(request, ref, known[verb])


def _act(request: HttpRequest, ref: str, verb: Verb) -> HttpResponse:
    args = read_object(request, optional=verb not in (Verb.ALTER, Verb.RESIZE))
    job = submit.act(
        actor(request),
        ref,
        verb,
        args,
        project=project_of(request),
        origin=origin(request),
        key=idempotency_key(request),
    )
    return accepted(job)
