"""Addresses below ``/api/v1/``. What the framework would answer in HTML or plain text is a problem here too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, re_path
from django.views.decorators.csrf import csrf_exempt

from vmcloud.domain.errors import NotFound

from .problems import NotAllowed, answer
from .v1 import api


def _method(request: HttpRequest, response: Any) -> Any:
    """``response``, or the problem where it says 405."""
    if response.status_code != 405 or response.get("Content-Type", "").startswith("application/problem"):
        return response
    allowed = response.get("Allow", "")
    said = answer(NotAllowed(f"{request.method} is not possible here", where=request.path, todo=f"Possible: {allowed}."))
    said["Allow"] = allowed
    return said


def _explained(view: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(view):

        @functools.wraps(view)
        async def later(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return _method(request, await view(request, *args, **kwargs))

        return later

    @functools.wraps(view)
    def now(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return _method(request, view(request, *args, **kwargs))

    return now


@csrf_exempt
def unknown(request: HttpRequest) -> HttpResponse:
    """No such path."""
    return answer(NotFound("there is nothing at this address", where=request.path, todo="/api/v1/docs shows what there is."))


urlpatterns, app_name, _ = api.urls
app_name = "api-v1"
for _pattern in urlpatterns:
    if isinstance(_pattern, URLPattern):
        _pattern.callback = unknown if _pattern.name == "api-root" else _explained(_pattern.callback)
urlpatterns = [*urlpatterns, re_path(r"^.*$", unknown, name="unknown")]
