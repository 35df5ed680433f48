"""What a browser is told about every page: where scripts and styles may come from."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Nothing from elsewhere, and no script or style within a page: markup that got into one by mistake does nothing."""

DOCS = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""For the API's own page, whose reader (Swagger UI) sets styles within it."""


class ContentSecurityPolicy:
    """Middleware: the header, unless the answer has one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """One request."""
        response = self._get_response(request)
        policy = DOCS if request.path.startswith("/api/v1/docs") else POLICY
        response.headers.setdefault("Content-Security-Policy", policy)
        return response
