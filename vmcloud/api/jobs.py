"""Jobs: list, show, wait for a change, cancel, history."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from vmcloud.domain.errors import Invalid, Problem
from vmcloud.domain.names import check_label
from vmcloud.domain.terms import Hold
from vmcloud.fleet.models import ArchivedJob, Job, JobEvent
from vmcloud.fleet.services import archive, jobs, queries, queues, submit, views, waiting, why
from vmcloud.fleet.services.moments import moment

from .answers import PAGING, accepted, filters, idempotency_key, no_filters, number, origin, page, read_object, send
from .auth import actor
from .schemas.common import PAGES, ProblemOut, body, query_parameters
from .schemas.jobs import (
    AlterIn,
    BatchIn,
    BatchOut,
    CancelIn,
    EventPage,
    HoldIn,
    JobFullOut,
    JobOut,
    JobPage,
    MoveIn,
    OrderIn,
    SignalIn,
    WhyOut,
)

router = Router()
FILTERS = (
    ("active", "`true`: only what is not complete"),
    ("mine", "`true`: only your own"),
    ("archived", "`true`: those that ended long ago, out of the archive, and no others"),
    ("state", "a letter: Q H W R E C"),
    ("ve", "name or UUID"),
    ("node", ""),
    ("verb", ""),
    ("owner", ""),
    ("queue", ""),
    ("expand", "`true`: also the parts of arrays, each by itself"),
    ("array", "the parts of this array, such as `41[]`"),
    ("indices", "with `array`: only these of them, such as `0-9`"),
)
BEGUN: dict[int, Any] = {400: ProblemOut, 403: ProblemOut, 404: ProblemOut, 409: ProblemOut}
YES, NO = ("1", "true", "yes"), ("0", "false", "no")


def _jobs_json(rows: list[Job]) -> list[dict[str, Any]]:
    return views.jobs_json(rows)


def _archived_json(rows: list[ArchivedJob]) -> list[dict[str, Any]]:
    return views.jobs_json(archive.restored(row) for row in rows)


def _events_json(rows: list[JobEvent]) -> list[dict[str, Any]]:
    return [{"id": row.pk, "at": moment(row.at), "text": row.text} for row in rows]


@router.get("", response=JobPage, summary="List jobs", openapi_extra={"parameters": [*query_parameters(*FILTERS), *PAGES]})
def list_jobs(request: HttpRequest) -> HttpResponse:
    """Jobs that you may see, newest first. An array is one job; its parts are listed where `expand`, `array`, `ve` or `node` asks
    for them. What ended long ago is archived: `GET /jobs/{id}` finds it as any other."""
    found = filters(request, beside=PAGING)
    for name in ("active", "mine", "expand", "archived"):
        if found.get(name, "true").lower() not in (*YES, *NO):
            raise Invalid(f"{found[name][:40]!r} is neither true nor false", where=name)
    if found.pop("mine", "false").lower() in YES:
        found["owner"] = actor(request).username
    if "active" in found and found["active"].lower() in NO:
        del found["active"]
    if found.pop("archived", "false").lower() in YES:
        return page(queries.archived(actor(request), found), ("-id",), request, _archived_json)
    return page(queries.jobs(actor(request), found), ("-id",), request, _jobs_json)


@router.post(
    "",
    response={200: BatchOut, 400: ProblemOut},
    summary="Ask for many actions at once",
    openapi_extra=body(BatchIn),
)
def submit_many(request: HttpRequest) -> HttpResponse:
    """Verbs on VEs that exist, at most 1000, for the price of one commit. Each is answered with its job or with why it was
    refused, in their order; `key` is its Idempotency-Key."""
    no_filters(request)
    made = submit.act_many(actor(request), _only(request, "requests", optional=False), origin=origin(request))
    shown = iter(views.jobs_json(each for each in made if isinstance(each, Job)))
    items = [{"problem": each.to_json()} if isinstance(each, Problem) else {"job": next(shown)} for each in made]
    return send({"items": items})


@router.get(
    "/{ref}",
    response={200: JobFullOut, 404: ProblemOut},
    summary="Show a job, or wait for its next change",
    openapi_extra={
        "parameters": query_parameters(
            ("wait", "seconds, at most 60: answer as soon as the job's `version` is above `version`, or it is complete"),
            ("version", "the `version` you know; default 0"),
        )
    },
)
def show_job(request: HttpRequest, ref: str) -> HttpResponse:
    """One job with its steps: by its number, or as a part of an array (`41[7]`). Of an array (`41[]`) how its parts are, and
    those that did not end well."""
    no_filters(request, beside=("wait", "version"))
    given = filters(request)
    for name in ("wait", "version"):  # what is waited for is over by now (vmcloud.api.waits)
        number(given.get(name, "0"), name)
    return send(views.job_json(jobs.get(actor(request), ref), full=True))


@router.post(
    "/{ref}/cancel",
    response={202: JobOut, 403: ProblemOut, 404: ProblemOut},
    summary="Cancel a job",
    openapi_extra=body(CancelIn, required=False),
)
def cancel_job(request: HttpRequest, ref: str) -> HttpResponse:
    """What has not begun never will; what has is stopped and undone. A complete job stays as it is. Asking twice is harmless.
    With `force` a job that has begun ends now, and says what may be left where; for administrators. This and all that changes
    jobs takes an array (`41[]`) for its parts, and several of these (`41[0-9]`), too."""
    no_filters(request)
    force = _only(request, "force", optional=True) or False
    if not isinstance(force, bool):
        raise Invalid("true or false is needed", where="force")
    return accepted(jobs.cancel(actor(request), ref, force=force))


@router.get("/{ref}/why", response={200: WhyOut, 404: ProblemOut}, summary="Why a job is where it is")
def why_job(request: HttpRequest, ref: str) -> HttpResponse:
    """All that it waits for, what each node says to it, and what would let it go on."""
    no_filters(request)
    return send(why.explain(actor(request), ref))


@router.post("/{ref}/rerun", response={202: JobOut, **BEGUN}, summary="Put a running job back into its queue")
def rerun_job(request: HttpRequest, ref: str) -> HttpResponse:
    """It is stopped, undone, and begins anew under the same number. (`retry` is for what has ended, and makes a new job.)"""
    no_filters(request)
    return accepted(jobs.rerun(actor(request), ref))


@router.post("/{ref}/signal", response={202: JobOut, **BEGUN}, summary="Signal a job", openapi_extra=body(SignalIn))
def signal_job(request: HttpRequest, ref: str) -> HttpResponse:
    """TERM, INT, HUP, QUIT: as cancel. KILL of an action: what carries out its step is killed and begins again, three times at
    most; for administrators. What makes no sense for a job is refused."""
    no_filters(request)
    return accepted(jobs.signal(actor(request), ref, _only(request, "signal", optional=False)))


@router.patch("/{ref}", response={202: JobOut, **BEGUN}, summary="Alter a job that has not begun", openapi_extra=body(AlterIn))
def alter_job(request: HttpRequest, ref: str) -> HttpResponse:
    """Other terms. Only an administrator may raise a priority or a walltime. `slots` is of an array as a whole."""
    no_filters(request)
    return accepted(waiting.alter(actor(request), ref, read_object(request)))


@router.post("/{ref}/hold", response={202: JobOut, **BEGUN}, summary="Hold a job", openapi_extra=body(HoldIn, required=False))
def hold_job(request: HttpRequest, ref: str) -> HttpResponse:
    """Keep a job that has not begun from beginning. A user's hold is its owner's; the others are administrators'."""
    return accepted(waiting.hold(actor(request), ref, _who(request)))


@router.post(
    "/{ref}/release", response={202: JobOut, **BEGUN}, summary="Release a job", openapi_extra=body(HoldIn, required=False)
)
def release_job(request: HttpRequest, ref: str) -> HttpResponse:
    """Take back a hold of that sort."""
    return accepted(waiting.release(actor(request), ref, _who(request)))


@router.post("/{ref}/run", response={202: JobOut, **BEGUN}, summary="Run a job out of turn")
def run_job(request: HttpRequest, ref: str) -> HttpResponse:
    """Before all others, whatever it waits for; for administrators. Not what is held, and never out of its lane."""
    no_filters(request)
    return accepted(waiting.run_now(actor(request), ref))


@router.post("/{ref}/order", response={202: JobOut, **BEGUN}, summary="Exchange two jobs", openapi_extra=body(OrderIn))
def order_jobs(request: HttpRequest, ref: str) -> HttpResponse:
    """Two jobs that have not begun change places in the queue."""
    no_filters(request)
    other = _other(_only(request, "job", optional=False))
    return accepted(waiting.exchange(actor(request), ref, other)[0])


@router.post("/{ref}/move", response={202: JobOut, **BEGUN}, summary="Move a job", openapi_extra=body(MoveIn))
def move_job(request: HttpRequest, ref: str) -> HttpResponse:
    """Put a job that has not begun into another queue."""
    no_filters(request)
    name = _only(request, "queue", optional=False)
    return accepted(queues.move(actor(request), ref, check_label(name, where="queue")))


@router.post("/{ref}/retry", response={202: JobOut, **BEGUN}, summary="Ask again for what did not end well")
def retry_job(request: HttpRequest, ref: str) -> HttpResponse:
    """A new job like one that is complete and did not end well; of an array, an array of the parts that did not."""
    no_filters(request)
    return accepted(submit.retry(actor(request), ref, origin=origin(request), key=idempotency_key(request)))


def _other(said: Any) -> str | int:
    """A job in a body: its number, or what it is called."""
    if isinstance(said, bool) or not isinstance(said, str | int):
        raise Invalid(f"{str(said)[:40]!r} is no job", where="job", todo='Give its number, or text such as "41[7]".')
    return said


def _who(request: HttpRequest) -> Hold:
    no_filters(request)
    return waiting.parse_hold(_only(request, "who", optional=True))


def _only(request: HttpRequest, name: str, *, optional: bool) -> Any:
    """The one member that a body may have."""
    found = read_object(request, optional=optional)
    if unknown := sorted(set(found) - {name}):
        raise Invalid(f"no field is called {unknown[0][:60]!r}", where=unknown[0][:60], todo=f"Known: {name}.")
    return found.get(name)


@router.get("/{ref}/events", response={200: EventPage, 404: ProblemOut}, summary="History", openapi_extra={"parameters": PAGES})
def list_events(request: HttpRequest, ref: str) -> HttpResponse:
    """A job's history in words, oldest first."""
    no_filters(request, beside=PAGING)
    job = jobs.get(actor(request), ref)
    if job.archived:
        return send({"items": _events_json(list(job.events.all())), "next": None})
    return page(JobEvent.objects.filter(job=job).order_by("id"), ("id",), request, _events_json)
