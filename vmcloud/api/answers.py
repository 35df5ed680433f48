"""Requests read and answers written: JSON bodies, pages, jobs. The grammar of what is asked lives in :mod:`vmcloud.domain`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from vmcloud.domain.errors import Invalid
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import views

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
KEY_MAX = 255
PAGING = ("limit", "cursor")
VERSION = re.compile(r"[0-9]{14}\.[0-9]{6}Z#[0-9a-f]{6}#[0-9a-f]{3}#[0-9a-f]{6}")
"""A change sequence number of OpenLDAP (draft-ietf-ldup-model, 4.1)."""


def encode(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str).encode()


def send(value: Any, status: int = 200, **headers: str) -> HttpResponse:
    """A JSON answer. ``headers``: underscores stand for hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return HttpResponse(encode(value), status=status, content_type="application/json", headers=named)


def accepted(job: Job) -> HttpResponse:
    """The action is a job now; ``Location`` is where to follow it. 202; 200 for one that is complete already, as of a request
    that is sent again."""
    status = 200 if job.state == JobState.COMPLETE else 202
    return send(views.job_json(job), status, Location=f"/api/v1/jobs/{job.pk}")


def read_object(request: HttpRequest, *, optional: bool = False) -> dict[str, Any]:
    """The body as a JSON object. :class:`Invalid` says where it is malformed; ``optional``: no body is an empty object."""
    raw = request.body
    if optional and not raw.strip():
        return {}
    try:
        value = json.loads(raw.decode(), parse_constant=_no_constant, object_pairs_hook=_no_twins)
        # Half a surrogate pair is JSON and is no text: SQL and LDAP could not keep it.
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise Invalid(
            "the body is not JSON", where=f"body, line {error.lineno}, column {error.colno}", why=error.msg, code="malformed-json"
        ) from error
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, _Refused) else "not UTF-8, nested too deeply, or a number too long"
        raise Invalid("the body is not JSON that can be read here", where="body", why=why, code="malformed-json") from error
    if not isinstance(value, dict):
        raise Invalid("a JSON object is needed", where="body", todo='Send something like {"vcpus": 2}.')
    return value


class _Refused(ValueError):
    """Something Python's JSON would take and RFC 8259 (or sense) would not."""


def _no_constant(name: str) -> Any:
    raise _Refused(f"{name} is no JSON number")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("a name occurs twice in one object")
    return found


def idempotency_key(request: HttpRequest) -> str:
    """The ``Idempotency-Key`` header, or nothing."""
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > KEY_MAX or not key.isprintable():
        raise Invalid(f"a key is at most {KEY_MAX} printable characters", where="Idempotency-Key")
    return key


def filters(request: HttpRequest, *, beside: Iterable[str] = ()) -> dict[str, str]:
    """The query's parameters except ``beside`` (those that are no filters), each given at most once."""
    found: dict[str, str] = {}
    for name, values in request.GET.lists():
        if len(values) > 1:
            raise Invalid("given more than once", where=name)
        if "\0" in name + values[0]:
            raise Invalid("a NUL character", where="query")
        if name not in beside and values[0]:
            found[name] = values[0]
    return found


def after_write(request: HttpRequest) -> None:
    """``after``: the ``directory_version`` of a job; what is read next shows that write, if the read model is not behind by more
    than half a second: that was waited for (:mod:`.waits`)."""
    version = request.GET.get("after", "")
    if version and not VERSION.fullmatch(version):
        todo = "Give the directory_version of a job, as it is."
        raise Invalid(f"{version[:60]!r} is no version of an entry", where="after", todo=todo)


def number(text: str, where: str) -> float:
    """A number from 0 up; :class:`Invalid` for anything else."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 2**53:
        raise Invalid(f"{text[:40]!r} is not a number from 0 up", where=where)
    return found


def no_filters(request: HttpRequest, *, beside: Iterable[str] = ()) -> None:
    """Refuse a query parameter that would silently do nothing."""
    for name in filters(request, beside=beside):
        raise Invalid(f"no query parameter is called {name[:60]!r} here", where=name[:60])


def origin(request: HttpRequest) -> str:
    """``cli`` for our own command line, which says so; ``api`` for everybody else."""
    return "cli" if request.headers.get("User-Agent", "").startswith("vmcloud-cli") else "api"


def page(
    rows: QuerySet[Any],
    keys: tuple[str, ...],
    request: HttpRequest,
    to_json: Callable[[list[Any]], list[dict[str, Any]]],
) -> HttpResponse:
    """One page: ``{"items": [...], "next": cursor or null}``.

    ``rows`` must be ordered by ``keys`` (each may begin with ``-``), which together are unique: the cursor is the last row's
    values, so a page neither repeats nor skips a row when others come or go.
    """
    limit = _limit(request.GET.get("limit", ""))
    if cursor := request.GET.get("cursor", ""):
        rows = rows.filter(_after(keys, _decode(cursor, rows.model, keys)))
    found = list(rows[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    return send({"items": to_json(found), "next": _cursor(found[-1], keys) if more else None})


def _limit(text: str) -> int:
    if not text:
        return LIMIT_DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LIMIT_MAX):
        raise Invalid(f"{text[:40]!r} is no limit", where="limit", todo=f"Give a whole number from 1 to {LIMIT_MAX}.")
    return int(text)


def _after(keys: tuple[str, ...], values: list[Any]) -> Q:
    """Rows behind ``values`` in the order of ``keys``."""
    behind, equal = Q(), Q()
    for key, value in zip(keys, values, strict=True):
        name = key.lstrip("-")
        step = equal & Q(**{f"{name}__{'lt' if key.startswith('-') else 'gt'}": value})
        behind = behind | step
        equal = equal & Q(**{name: value})
    return behind


def _cursor(row: Model, keys: tuple[str, ...]) -> str:
    values = [getattr(row, key.lstrip("-")) for key in keys]
    return base64.urlsafe_b64encode(encode(values)).decode().rstrip("=")


def _decode(cursor: str, model: type[Model], keys: tuple[str, ...]) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not all(isinstance(value, str | int) and "\0" not in str(value) for value in values):
            raise ValueError("not the values of a key")
        fields: list[Any] = [model._meta.get_field(key.lstrip("-")) for key in keys]
        return [field.to_python(value) for field, value in zip(fields, values, strict=True)]
    except (ValueError, TypeError, RecursionError, ValidationError):
        todo = "Take the `next` of the page before, as it is."
        raise Invalid("this is no cursor of this list", where="cursor", todo=todo) from None
