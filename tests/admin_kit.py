"""What tests of the admin pages share: somebody who is logged in, jobs and events to look at, and what a page says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web import Web

LISTS = ["ve", "job", "node", "image", "stray", "event", "queuerow"]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
FORM = {
    "name": "web-2",
    "project": "main",
    "kind": "lxc",
    "image": "busybox",
    "vcpus": 1,
    "memory_mib": 64,
    "power": "running",
    "restart": "on-failure",
    "node": "",
    "description": "",
    "key": "form-1",
}


def client_of(username: str, *, superuser: bool, **options: Any) -> Any:
    from django.contrib.auth.models import User
    from django.test.client import Client

    user, _ = User.objects.get_or_create(username=username)
    user.is_staff, user.is_superuser = True, superuser
    user.save()
    client = Client(**options)
    client.force_login(user)
    return client


@pytest.fixture
def admin(web: Web) -> Any:
    return client_of("admin", superuser=True)


@pytest.fixture
def ann(web: Web) -> Any:
    """Staff, and no administrator."""
    return client_of("ann", superuser=False)


def jobs() -> list[tuple[str, str, str]]:
    from vmcloud.fleet.models import Job

    return [(job.verb, job.ve_name, job.origin) for job in Job.objects.order_by("id")]


def job(**fields: Any) -> Any:
    from vmcloud.fleet.models import Job

    return Job.objects.create(**{"verb": "start", "owner": "admin", "created_at": 1e9, "state": "Q", **fields})


def event(text: str, **fields: Any) -> Any:
    from vmcloud.fleet.models import Event

    return Event.objects.create(**{"at": 1e9, "type": "state", "text": text, **fields})


def words(client: Any, path: str, status: int = 200) -> str:
    answer = client.get(f"/admin/{path}")
    assert answer.status_code == status, answer
    text: str = answer.content.decode()
    return text
