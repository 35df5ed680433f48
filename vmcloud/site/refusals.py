"""Every refusal and every login of the web part goes to the audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from vmcloud.api.problems import LOGIN_PATH, REFUSED
from vmcloud.fleet.services import audit
from vmcloud.fleet.services.audit import Door


class Refusals:
    """Middleware: an answer that refuses somebody what they asked for is noted. (Logins are noted where they are judged.)"""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """One request."""
        response = self._get_response(request)
        if response.status_code in REFUSED and request.path != LOGIN_PATH:
            door = Door.PAGES if request.path.startswith("/admin/") else Door.REST
            problem = getattr(response, "problem", None)
            why = problem.what if problem is not None else response.reason_phrase
            source = str(request.META.get("REMOTE_ADDR", ""))
            audit.denied(door, f"{request.method} {request.path}", why, who=_who(request), source=source)
        return response


def _who(request: HttpRequest) -> str:
    """The name behind a token or a session; empty where it is not known."""
    asked: Any = getattr(request, "auth", None)
    if asked is not None:
        return str(getattr(asked, "username", ""))
    user: Any = getattr(request, "user", None)
    return user.get_username() if user is not None and user.is_authenticated else ""
