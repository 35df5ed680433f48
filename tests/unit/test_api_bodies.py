"""Large bodies are refused before they are kept, and guessing passwords is slow from wherever it comes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]

MIB = 1 << 20


def ask(method: str, path: str, token: str, *, length: int | None, pieces: int) -> tuple[int, int]:
    """One request of ``pieces`` MiB; the status, and how many bytes the application got."""
    from vmcloud.api.bodies import BodyLimit

    got, said = 0, list[Any]()
    left = [{"type": "http.request", "body": b"x" * MIB, "more_body": n > 1} for n in range(pieces, 0, -1)]

    async def receive() -> Any:
        return left.pop(0)

    async def send(event: Any) -> None:
        said.append(event)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal got
        more = True
        while more:
            event = await receive()
            got, more = got + len(event["body"]), event["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    async_to_sync(BodyLimit(app))(scope, receive, send)
    return said[0]["status"], got


@pytest.mark.parametrize("announced", [True, False])
def test_only_an_administrator_importing_an_image_may_send_much(web: Web, announced: bool) -> None:
    length = 3 * MIB if announced else None
    refused_at = 0 if announced else MIB
    path = "/api/v1/images/alpine"
    assert ask("PUT", path, web.token, length=length, pieces=3) == (200, 3 * MIB)
    assert ask("PUT", path, "", length=length, pieces=3) == (401, refused_at)
    assert ask("PUT", path, "vmc_wrong", length=length, pieces=3) == (401, refused_at)
    assert ask("PUT", path, web.user("eve"), length=length, pieces=3) == (403, refused_at)
    for method, other in (("POST", "/admin/login/"), ("POST", "/api/v1/tokens"), ("GET", path), ("PUT", path + "/x")):
        assert ask(method, other, web.token, length=length, pieces=3) == (413, refused_at)


def test_small_bodies_are_nobodys_concern(web: Web) -> None:
    assert ask("POST", "/api/v1/tokens", "", length=MIB, pieces=1) == (200, MIB)


def test_even_an_administrator_has_a_limit(web: Web) -> None:
    assert ask("PUT", "/api/v1/images/alpine", web.token, length=(64 << 30) + 1, pieces=1) == (413, 0)


def test_the_site_is_behind_the_limit(web: Web) -> None:
    from vmcloud.api.bodies import BodyLimit
    from vmcloud.site.asgi import application

    assert isinstance(application, BodyLimit)


def test_what_a_broken_import_left_is_swept(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.services import images

    synced: list[Path] = []
    monkeypatch.setattr(images, "_sync", synced.append)
    web.images.mkdir(parents=True)
    old, new = web.images / ".incoming-old", web.images / ".incoming-new"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    assert web.call("PUT", "/images/alpine", b"archive").status_code == 202
    assert not old.exists() and new.exists() and synced == [web.images]


def test_a_user_is_limited_from_all_addresses_together(web: Web) -> None:
    from vmcloud.api import auth
    from vmcloud.fleet.services.logins import TooMany

    class Request:
        def __init__(self, address: str) -> None:
            self.META = {"REMOTE_ADDR": address}

    for n in range(10):
        auth.check_login_rate(Request(f"192.0.2.{n}"), "admin")  # type: ignore[arg-type]
    with pytest.raises(TooMany):
        auth.check_login_rate(Request("192.0.2.99"), "admin")  # type: ignore[arg-type]
    auth.check_login_rate(Request("192.0.2.99"), "other")  # type: ignore[arg-type]


def test_nobody_acts_in_the_name_of_the_cloud(web: Web) -> None:
    token = web.user("vmcloud", "secret-of-it")
    assert web.call("GET", "/jobs", token=token).status_code == 403
    asked = {"username": "vmcloud", "password": "secret-of-it"}
    assert web.call("POST", "/tokens", asked, token="").status_code == 403
    assert ask("PUT", "/api/v1/images/alpine", token, length=2 * MIB, pieces=2) == (403, 0)
