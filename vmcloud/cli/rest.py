"""The API as one small client over the standard library's HTTP.

Requests that carry an idempotency key, and reads, are sent again when the connection is lost: the answer to "was it done?" is
then the same job, never a second one.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from vmcloud.domain.errors import Problem

from .errors import CliError, Refused, Unreachable
from .settings import Access

AGENT = "vmcloud-cli/1"
TIMEOUT = 30.0
TRIES = 3
PAUSE = 0.2
"""Seconds before a lost request is sent again; twice as long each time."""
PAGE = 1000
BATCH = 500
"""Actions in one request: half of what the API takes, so that long descriptions fit too."""
LOG_IN = 'Log in: `vmcloud login`; or as root of its machine: eval "$(vmcloud env)".'
Query = dict[str, str]
Body = dict[str, Any] | Callable[[], Iterable[bytes]] | None
"""JSON, or a function that begins the stream of a body (anew, if it is sent again)."""


class Client:
    """One cloud's API. Keeps its connection open between requests; not for use by several threads."""

    def __init__(self, access: Access, timeout: float = TIMEOUT) -> None:
        self.url, self._token, self._timeout = access.url, access.token, timeout
        try:
            parts = urlsplit(access.url)
            self._secure, self._host, self._port = parts.scheme == "https", parts.hostname or "", parts.port
            good = parts.scheme in ("http", "https") and self._host
        except ValueError:
            good = False
        if not good:
            raise CliError.say(
                f"{access.url!r} is no address of a vmcloud", todo="Give one such as http://cloud.example.org:8470."
            )
        self._prefix = parts.path.rstrip("/") + "/api/v1"
        self._connection: http.client.HTTPConnection | None = None

    def credentials(self) -> dict[str, str]:
        """The headers that say who is asking."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def get(self, path: str, query: Query | None = None, *, timeout: float | None = None) -> Any:
        """Read one thing."""
        return self.request("GET", path, query=query, timeout=timeout)

    def every(self, path: str, query: Query | None = None, *, limit: int = 0) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page; at most ``limit`` where it is not 0."""
        asked = dict(query or {})
        left = limit or -1
        while left:
            asked["limit"] = str(min(PAGE, left) if left > 0 else PAGE)
            page = self.get(path, asked)
            yield from page["items"]
            left -= len(page["items"]) if left > 0 else 0
            if not page["next"]:
                return
            asked["cursor"] = page["next"]

    def act(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        query: Query | None = None,
        key: str = "",
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Ask for an action; its job."""
        job: dict[str, Any] = self.request(method, path, query=query, body=body, key=key, timeout=timeout)
        return job

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body = None,
        key: str = "",
        again: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """One request; the answer's JSON. ``again``: it may be sent again though it has no key. Raises :class:`Refused` for a
        problem, :class:`Unreachable` where nobody answers."""
        target = self._prefix + path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": "application/json", "User-Agent": AGENT, **self.credentials()}
        if key:
            headers["Idempotency-Key"] = key
        tries = TRIES if key or again or method == "GET" else 1
        for attempt in range(1, tries + 1):
            try:
                status, content = self._once(method, target, headers, body, timeout or self._timeout)
            except ConnectionRefusedError as error:
                raise self._nobody(error) from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt == tries or isinstance(error, TimeoutError) or not _lost(error):
                    raise self._nobody(error) from error
            else:
                if not (status == 409 and attempt < tries and _under_way(content)):
                    return self._result(status, content)
            time.sleep(PAUSE * 2 ** (attempt - 1))
        raise AssertionError("not reached")

    def _once(self, method: str, target: str, headers: dict[str, str], body: Body, timeout: float) -> tuple[int, bytes]:
        """Send, and read the whole answer."""
        connection = self._connect(timeout)
        raw: Any = None
        if callable(body):
            raw, headers = body(), {**headers, "Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
        elif body is not None:
            raw, headers = json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}
        try:
            connection.request(method, target, body=raw, headers=headers, encode_chunked=callable(body))
        except (BrokenPipeError, ConnectionResetError):
            if not callable(body):
                raise  # a long body may be cut short by an early refusal: read what was said
        response = connection.getresponse()
        content = response.read()
        if response.will_close:
            self.close()
        return response.status, content

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = kind(self._host, self._port, timeout=timeout)
            self._connection.connect()
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        return self._connection

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _result(self, status: int, content: bytes) -> Any:
        if status == 204:
            return {}
        try:
            data = json.loads(content) if content else None
        except ValueError:
            data = None
        if 200 <= status < 300 and isinstance(data, dict):
            return data
        if status == 401 and not self._token:
            problem = Problem("unauthenticated", f"you are not logged in at {self.url}", todo=LOG_IN)
            raise Refused(problem, status)
        if isinstance(data, dict) and "what" in data:
            raise Refused(Problem.from_json(data), status)
        raise Unreachable.say(
            f"{self.url} answers, but not as a vmcloud does",
            why=f"HTTP status {status}",
            todo="Check the address: VMCLOUD_URL, or `vmcloud login URL`.",
        )

    def _nobody(self, error: Exception) -> CliError:
        text = str(getattr(error, "strerror", None) or error) or type(error).__name__
        import socket

        here = self._host in ("localhost", "::1", socket.gethostname()) or self._host.startswith("127.")
        todo = "Start it with `vmcloud up`; look at `vmcloud status`."
        if not here:
            todo = "Check the address (VMCLOUD_URL, `vmcloud login URL`), and `vmcloud status` on that machine."
        return Unreachable.say(f"no vmcloud answers at {self.url}", why=text, todo=todo)


def _lost(error: Exception) -> bool:
    """Whether a connection that was there broke (as against a name that does not resolve, or no route)."""
    return isinstance(error, ConnectionError | http.client.HTTPException)


def _under_way(content: bytes) -> bool:
    """Whether a 409 only says that the same request, sent before, is being worked on."""
    try:
        problem = json.loads(content)
    except ValueError:
        return False
    return isinstance(problem, dict) and problem.get("where") == "Idempotency-Key" and problem.get("code") == "conflict"


def batch(api: Client, requests: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any] | Refused]:
    """Ask for many actions on VEs, each with a key of its own, :data:`BATCH` in one request; each one's job or refusal."""
    left = list(requests)
    while left:
        some, left = left[:BATCH], left[BATCH:]
        for item in api.request("POST", "/jobs", body={"requests": some}, again=True)["items"]:
            yield item["job"] if item.get("job") else Refused(Problem.from_json(item["problem"]), 422)


def segment(name: str) -> str:
    """A name as one segment of a path, whatever is in it."""
    return "/" + quote(name, safe="")
