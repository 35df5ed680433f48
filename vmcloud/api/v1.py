"""``/api/v1``: the one NinjaAPI object, its routers and its description."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Swagger

from vmcloud.domain.errors import Invalid
from vmcloud.fleet.services import accounts, logins

from . import audit, events, images, jobs, kinds, nodes, problems, queues, reconcile, snapshots, strays, usage, ves, webhooks
from .answers import read_object, send
from .auth import Bearer, actor, check_login_rate
from .description import Described
from .schemas.accounts import HealthOut, LoginIn, TokenOut, WhoOut
from .schemas.common import body

DESCRIPTION = """
Every action is a **job**, answered with its JSON: with 202, and it is complete when `state` is `C`; follow it at the address in
`Location`, or with `GET /jobs/{id}?wait=20&version=N`. A job that is complete already is answered with 200.

`GET /watch` is a stream of server-sent events (`text/event-stream`): a `change` with kind and key for everything that is not as
it was, narrowed by `kinds` (`ve,node,image,stray,job,queue,event`) and `key`, resumed by `Last-Event-ID` or `after`; `reset`
means that more was missed than is kept. A read with `after=<directory_version of a job>` waits up to half a second for that
write.

Send `Authorization: Bearer <token>`; `POST /tokens` exchanges a password for one. Send `Idempotency-Key` with an action, and
a repetition of the same request answers with the first one's job. Errors are `application/problem+json` (RFC 9457) with
`code`, `where`, `why` and `todo` beside the standard members. Lists come in pages: pass `next` as `cursor`.
"""

api = Described(
    title="vmcloud",
    version="1",
    description=DESCRIPTION,
    auth=Bearer(),
    docs=Swagger(settings={"persistAuthorization": True, "tryItOutEnabled": True}),
    urls_namespace="api-v1",
    openapi_extra={
        "tags": [
            {"name": name}
            for name in ("VEs", "jobs", "queues", "events", "audit", "webhooks", "kinds", "nodes", "images", "accounts", "health")
        ]
    },
)
problems.install(api)
api.add_router("/ves", snapshots.router, tags=["VEs"])
api.add_router("/ves", usage.one, tags=["VEs"])
api.add_router("/ves", ves.router, tags=["VEs"])
api.add_router("/usage", usage.router, tags=["VEs"])
api.add_router("/kinds", kinds.router, tags=["kinds"])
api.add_router("/nodes", nodes.router, tags=["nodes"])
api.add_router("/strays", strays.router, tags=["nodes"])
api.add_router("/reconcile", reconcile.router, tags=["nodes"])
api.add_router("/images", images.router, tags=["images"])
api.add_router("/blobs", images.blobs, tags=["images"])
api.add_router("/jobs", jobs.router, tags=["jobs"])
api.add_router("/queues", queues.router, tags=["queues"])
api.add_router("/webhooks", webhooks.router, tags=["webhooks"])
api.add_router("/events", events.router, tags=["events"])
api.add_router("/audit", audit.router, tags=["audit"])


@api.post("/tokens", auth=None, response={201: TokenOut}, tags=["accounts"], openapi_extra=body(LoginIn), summary="Log in")
def create_token(request: HttpRequest) -> HttpResponse:
    """Exchange a user's password for a token. Tried too often: 429 with `Retry-After`."""
    asked = read_object(request)
    if unknown := sorted(set(asked) - set(LoginIn.model_fields)):
        where = unknown[0][:60]
        raise Invalid(f"no field is called {where!r}", where=where, todo="Known fields: username, password, name.")
    username, password, name = (_text(asked, each) for each in ("username", "password", "name"))
    with logins.noted(username, str(request.META.get("REMOTE_ADDR", "")), "get a token"):
        logins.refuse_reserved(username)
        check_login_rate(request, username)
        token = accounts.login(username, password, name)
    return send({"token": token, "username": username, "name": name[:100]}, 201)


def _text(asked: dict[str, Any], where: str) -> str:
    """A field that must be text; the token's name has a default."""
    value = asked.get(where, "api" if where == "name" else None)
    if not isinstance(value, str) or not value or "\0" in value:
        raise Invalid("text is needed", where=where)
    return value


@api.get("/whoami", response=WhoOut, tags=["accounts"], summary="Who am I")
def whoami(request: HttpRequest) -> HttpResponse:
    """The user that the token belongs to."""
    who = actor(request)
    return send({"username": who.username, "is_admin": who.is_admin})


@api.get("/healthz", auth=None, response=HealthOut, tags=["health"], summary="Is the web part well")
def healthz(request: HttpRequest) -> HttpResponse:
    """200 if the web part answers and reaches the job database, else 503."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return send({"status": "ok"})
