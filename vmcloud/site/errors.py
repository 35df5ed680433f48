"""What is answered where a page failed: words, a status that tells "not now" from "never", and no traceback."""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse
from django.views.defaults import server_error

from vmcloud.api import problems
from vmcloud.domain.errors import Unavailable


def failed(request: HttpRequest) -> HttpResponse:
    """Django's ``handler500``, called while the error is handled: 503 or 507 where a part of the cloud is away, else 500."""
    error = sys.exc_info()[1]
    said = problems.translate(request, error) if error is not None else None
    if not isinstance(said, Unavailable):
        return server_error(request)
    if request.path.startswith("/api/"):
        return problems.answer(said)
    response = HttpResponse(f"vmcloud: {said.problem.sentence()}\n", status=said.http_status, content_type="text/plain")
    response["Retry-After"] = problems.RETRY_AFTER
    return response
